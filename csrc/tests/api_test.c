/* The C library from C: `api_test [PACKAGE]`. Without a package only what fails is tested. */
#include "include/mobilequant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

static void check(int holds, int line, const char* what) {
    if (holds) return;
    ++failures;
    fprintf(stderr, "api_test.c:%d: %s (last error: %s)\n", line, what, mq_last_error());
}
#define CHECK(condition) check((condition), __LINE__, #condition)

static void without_handles(void) {
    mq_model* model = NULL;
    mq_session* session = NULL;
    mq_sampler* sampler = NULL;
    int32_t token = 0;
    int16_t logit = 0;
    CHECK(strcmp(mq_version(), MQ_VERSION) == 0 && strcmp(mq_last_error(), "") == 0);
    CHECK(mq_open("/nowhere at all", 1, NULL, &model) == MQ_ERROR_PACKAGE && model == NULL);
    CHECK(strstr(mq_last_error(), "/nowhere at all") != NULL);
    CHECK(mq_open(NULL, 1, NULL, &model) == MQ_ERROR_USAGE && mq_open("/tmp", 1, NULL, NULL) == MQ_ERROR_USAGE);
    CHECK(mq_session_new(NULL, 0, &session) == MQ_ERROR_USAGE && session == NULL);
    CHECK(mq_sampler_new(NULL, 0, 0, 1, 1, 0, &sampler) == MQ_ERROR_USAGE && sampler == NULL);
    CHECK(mq_run(NULL, &token, 1, &logit, 1) == MQ_ERROR_USAGE &&
          mq_run_all(NULL, &token, 1, &logit, 1) == MQ_ERROR_USAGE);
    CHECK(mq_sample(NULL, &logit, NULL, 0, &token) == MQ_ERROR_USAGE);
    CHECK(mq_vocab_size(NULL) == 0 && mq_context(NULL) == 0 && mq_num_prefix(NULL) == 0 &&
          mq_leading_token(NULL) == -1);
    CHECK(mq_logits_scale(NULL) == 0 && strcmp(mq_kernels(NULL), "") == 0);
    CHECK(mq_session_position(NULL) == 0 && mq_session_room(NULL) == 0);
    CHECK(mq_session_rewind(NULL, 0) == MQ_ERROR_USAGE);
    mq_close(NULL), mq_session_free(NULL), mq_sampler_free(NULL);

    int32_t count = 0;
    while (mq_kernels_name(count)) ++count;
    CHECK(count > 0 && strcmp(mq_kernels_name(count - 1), "scalar") == 0 && mq_kernels_name(-1) == NULL);
}

/* All tokens at once, one after another, and in two parts: the same logits. */
static void runs(const mq_model* model, const int32_t* tokens, int64_t count) {
    const int64_t vocab = mq_vocab_size(model);
    const size_t bytes = (size_t)vocab * sizeof(int16_t);
    int16_t *all = malloc(bytes * (size_t)count), *last = malloc(bytes);
    mq_session* session = NULL;
    CHECK(mq_session_new(model, 0, &session) == MQ_OK);
    CHECK(mq_session_room(session) == mq_context(model) - mq_num_prefix(model) && mq_session_position(session) == 0);
    CHECK(mq_run_all(session, tokens, count, all, count * vocab) == MQ_OK && mq_session_position(session) == count);
    mq_session_free(session);

    CHECK(mq_session_new(model, count, &session) == MQ_OK && mq_session_room(session) == count);
    for (int64_t i = 0; i < count; ++i) {
        CHECK(mq_run(session, tokens + i, 1, last, vocab) == MQ_OK);
        CHECK(memcmp(last, all + i * vocab, bytes) == 0);
    }
    CHECK(mq_session_room(session) == 0 && mq_run(session, tokens, 1, last, vocab) == MQ_ERROR_USAGE);
    mq_session_free(session);

    CHECK(mq_session_new(model, count, &session) == MQ_OK);
    CHECK(mq_run(session, tokens, count - 1, last, vocab) == MQ_OK);
    CHECK(memcmp(last, all + (count - 2) * vocab, bytes) == 0);
    CHECK(mq_run(session, tokens + count - 1, 1, last, vocab) == MQ_OK);
    CHECK(memcmp(last, all + (count - 1) * vocab, bytes) == 0);

    CHECK(mq_session_rewind(session, -1) == MQ_ERROR_USAGE && mq_session_rewind(session, count + 1) == MQ_ERROR_USAGE);
    CHECK(mq_session_rewind(session, 2) == MQ_OK && mq_session_position(session) == 2);
    CHECK(mq_session_room(session) == count - 2 && mq_run(session, tokens + 2, 1, last, vocab) == MQ_OK);
    CHECK(memcmp(last, all + 2 * vocab, bytes) == 0);
    mq_session_free(session);
    free(all), free(last);
}

/* A call that fails changes nothing and writes nothing. */
static void refused(const mq_model* model) {
    const int64_t vocab = mq_vocab_size(model);
    const int32_t fine[] = {0, 1}, outside[] = {0, (int32_t)vocab}, negative[] = {-1};
    int16_t* logits = calloc((size_t)vocab, sizeof *logits);
    mq_session* session = NULL;
    CHECK(mq_session_new(model, -1, &session) == MQ_ERROR_USAGE && session == NULL);
    CHECK(mq_session_new(model, INT64_MAX, &session) == MQ_OK);
    CHECK(mq_run(session, outside, 2, logits, vocab) == MQ_ERROR_USAGE &&
          mq_run(session, negative, 1, logits, vocab) == MQ_ERROR_USAGE);
    CHECK(mq_run(session, fine, 0, logits, vocab) == MQ_ERROR_USAGE &&
          mq_run(session, fine, -1, logits, vocab) == MQ_ERROR_USAGE);
    CHECK(mq_run(session, NULL, 1, logits, vocab) == MQ_ERROR_USAGE &&
          mq_run(session, fine, 1, NULL, vocab) == MQ_ERROR_USAGE);
    CHECK(mq_run(session, fine, 1, logits, vocab - 1) == MQ_ERROR_USAGE &&
          mq_run_all(session, fine, 2, logits, vocab) == MQ_ERROR_USAGE);
    CHECK(mq_session_position(session) == 0);
    for (int64_t i = 0; i < vocab; ++i) CHECK(logits[i] == 0);
    mq_session_free(session);
    free(logits);
}

static void samples(const mq_model* model) {
    const int64_t vocab = mq_vocab_size(model);
    int16_t* logits = calloc((size_t)vocab, sizeof *logits);
    const int32_t before[] = {1, (int32_t)vocab};
    mq_sampler *greedy = NULL, *wrong = NULL;
    int32_t token = -5;
    logits[1] = 1000;
    CHECK(mq_sampler_new(model, -1, 0, 1, 1, 0, &wrong) == MQ_ERROR_USAGE &&
          mq_sampler_new(model, 1, 0, 0, 1, 0, &wrong) == MQ_ERROR_USAGE);
    CHECK(mq_sampler_new(model, 1, -1, 1, 1, 0, &wrong) == MQ_ERROR_USAGE &&
          mq_sampler_new(model, 1, 0, 1, 0, 0, &wrong) == MQ_ERROR_USAGE);
    CHECK(wrong == NULL);
    CHECK(mq_sampler_new(model, 0, 0, 1, 1.1, 0, &greedy) == MQ_OK);
    CHECK(mq_sample(greedy, logits, before, 2, &token) == MQ_ERROR_USAGE && token == -5);
    CHECK(mq_sample(greedy, logits, before, 1, &token) == MQ_OK && token == 1);
    CHECK(mq_sample(greedy, logits, NULL, 0, &token) == MQ_OK && token == 1);
    CHECK(mq_sample(greedy, logits, NULL, 1, &token) == MQ_ERROR_USAGE &&
          mq_sample(greedy, NULL, NULL, 0, &token) == MQ_ERROR_USAGE);
    mq_sampler_free(greedy);
    free(logits);
}

static void with_package(const char* folder) {
    const int32_t tokens[] = {3, 1, 4, 1, 5, 9, 2, 6};
    for (int32_t number = 0; mq_kernels_name(number); ++number) {
        mq_model* model = NULL;
        CHECK(mq_open(folder, 1 + number, mq_kernels_name(number), &model) == MQ_OK);
        if (!model) return;
        CHECK(strcmp(mq_kernels(model), mq_kernels_name(number)) == 0);
        CHECK(mq_vocab_size(model) > 9 && mq_context(model) > mq_num_prefix(model) && mq_logits_scale(model) > 0);
        runs(model, tokens, 8);
        refused(model);
        samples(model);
        mq_close(model);
    }
    mq_model* model = NULL;
    CHECK(mq_open(folder, 0, NULL, &model) == MQ_ERROR_USAGE && mq_open(folder, 257, NULL, &model) == MQ_ERROR_USAGE);
    CHECK(mq_open(folder, 1, "abacus", &model) == MQ_ERROR_USAGE && strstr(mq_last_error(), "abacus") && model == NULL);

    mq_session* session = NULL;
    int16_t* logits = NULL;
    CHECK(mq_open(folder, 2, NULL, &model) == MQ_OK && mq_session_new(model, 4, &session) == MQ_OK);
    const int64_t vocab = mq_vocab_size(model);
    mq_close(model); /* the session keeps what it needs */
    logits = malloc((size_t)vocab * sizeof *logits);
    CHECK(mq_run(session, tokens, 4, logits, vocab) == MQ_OK);
    mq_session_free(session);
    free(logits);
}

int main(int count, char** words) {
    without_handles();
    for (int i = 1; i < count; ++i) with_package(words[i]);
    return failures ? 1 : 0;
}
