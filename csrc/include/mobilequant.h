/* The engine as a C library: open a package, feed token ids, get integer logits.
 *
 *     mq_model *model;
 *     if (mq_open("smollm2-w4a8", 2, NULL, &model) != MQ_OK) fprintf(stderr, "%s\n", mq_last_error());
 *     mq_session *session;
 *     mq_session_new(model, 0, &session);
 *     int16_t *logits = malloc(mq_vocab_size(model) * sizeof *logits);
 *     mq_run(session, tokens, count, logits, mq_vocab_size(model));
 *
 * The same package and the same ids give the same logits on every processor, for any kernels and any number of threads
 * (docs/integer-semantics.md). The library knows no text: ids come from a tokenizer and go to one.
 *
 * Errors. A function that can fail returns an mq_status; what happened and what to do about it is mq_last_error. Then
 * nothing was changed and no output was written. The numbers are the exit codes of the programs. Memory that runs out
 * in the middle of mq_run ends the process.
 *
 * Threads. Different models are independent. Sessions of one model share its threads: calls of mq_run and mq_run_all of
 * one model wait for each other. One session, or one sampler, must not be used by two threads at once.
 *
 * Handles are opaque, belong to the caller, and are given back in any order; NULL may be given back too. All functions
 * but the ones that make and give back handles also take NULL: they fail, or return 0.
 */
#ifndef MOBILEQUANT_H
#define MOBILEQUANT_H

#include <stdint.h>

#define MQ_VERSION "0.1.0"

#if defined(__GNUC__)
#define MQ_API __attribute__((visibility("default")))
#else
#define MQ_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mq_status {
    MQ_OK = 0,
    MQ_ERROR_INTERNAL = 1, /* a defect of the library: please report it */
    MQ_ERROR_USAGE = 2,    /* the request cannot be meant: a token outside the vocabulary, no room, a wrong number */
    MQ_ERROR_RESOURCE = 5, /* not enough memory or threads */
    MQ_ERROR_PACKAGE = 7   /* no package, a damaged one, or one of a version that this library does not read */
} mq_status;

typedef struct mq_model mq_model;     /* a package that was opened, and the threads that run it */
typedef struct mq_session mq_session; /* one sequence: what was read so far */
typedef struct mq_sampler mq_sampler; /* a way to choose tokens, and its random numbers */

/* Version of the library that is running; MQ_VERSION is that of this header. */
MQ_API const char* mq_version(void);

/* What went wrong in the last call that failed in this thread, as one line of English in UTF-8; "" where none did. It
 * stays until the next call that fails in this thread. */
MQ_API const char* mq_last_error(void);

/* ── models ──────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Open the package in `folder`, check all of it, and prepare it for this processor.
 *
 * threads   1 to 256; as many as the processor has cores that are fast
 * kernels   NULL for the fastest that this processor can run, or the name of one, see mq_kernels_name
 * model     the handle, to be given back by mq_close
 *
 * MQ_ERROR_USAGE: threads or kernels. MQ_ERROR_PACKAGE: the package. MQ_ERROR_RESOURCE: memory or threads. */
MQ_API mq_status mq_open(const char* folder, int32_t threads, const char* kernels, mq_model** model);

/* Give a model back. What its sessions need stays until they are given back as well. */
MQ_API void mq_close(mq_model* model);

MQ_API int64_t mq_vocab_size(const mq_model* model); /* token ids are 0 … vocab_size − 1 */
MQ_API int64_t mq_context(const mq_model* model);    /* positions of a sequence, those of the prefix included */
MQ_API int64_t mq_num_prefix(const mq_model* model); /* positions that the package's constant prefix takes */

/* The id to feed before every text (BOS), or −1 where there is none, also where the prefix holds it already. */
MQ_API int32_t mq_leading_token(const mq_model* model);

/* Real value of one step of a logit: softmax(logits · scale) are the probabilities. */
MQ_API double mq_logits_scale(const mq_model* model);

/* The kernels that run the model, "" for NULL. "scalar" is many times slower than any other. The text stays. */
MQ_API const char* mq_kernels(const mq_model* model);

/* Name of one of the kernels that this processor can run, fastest first: number 0, 1, … The last is "scalar"; NULL
 * behind it. */
MQ_API const char* mq_kernels_name(int32_t number);

/* ── sessions ────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Begin a sequence behind the constant prefix. The cache of keys and values is made for `capacity` tokens, or for the
 * whole context where that is smaller or `capacity` is 0.
 *
 * MQ_ERROR_USAGE: `capacity` is negative. MQ_ERROR_RESOURCE: memory. */
MQ_API mq_status mq_session_new(const mq_model* model, int64_t capacity, mq_session** session);

MQ_API void mq_session_free(mq_session* session);

MQ_API int64_t mq_session_position(const mq_session* session); /* tokens that were read, without the prefix */
MQ_API int64_t mq_session_room(const mq_session* session);     /* tokens that can still be read */

/* Go back to where `position` tokens had been read: what is read next takes the place of what followed. Costs nothing.
 *
 * MQ_ERROR_USAGE: `position` is negative, or behind mq_session_position. */
MQ_API mq_status mq_session_rewind(mq_session* session, int64_t position);

/* Read `count` ≥ 1 tokens behind what was read before. Writes the logits (vocab_size) int16 behind the last token to
 * `logits`, which has room for `size` numbers. Many tokens at once are faster than one after another, and give the
 * same.
 *
 * MQ_ERROR_USAGE: no token, one outside the vocabulary, more than there is room for, or `size` is too small. */
MQ_API mq_status mq_run(mq_session* session, const int32_t* tokens, int64_t count, int16_t* logits, int64_t size);

/* The same with the logits behind every token: (count, vocab_size) int16. */
MQ_API mq_status mq_run_all(mq_session* session, const int32_t* tokens, int64_t count, int16_t* logits, int64_t size);

/* ── choosing tokens ─────────────────────────────────────────────────────────────────────────────────────────────── */

/* A sampler that works in integers: the same seed chooses the same tokens on every machine.
 *
 * temperature          0: always the likeliest, the smallest id of equals; up to 100
 * top_k                choose among so many of the likeliest; 0: all
 * top_p                choose among the likeliest that hold this share of probability; more than 0, 1: all
 * repetition_penalty   logits of tokens that stand already are divided by it where they are positive, and multiplied
 * where
 *                      they are negative; 0.01 to 100, 1: none
 *
 * MQ_ERROR_USAGE: one of them is out of range. */
MQ_API mq_status mq_sampler_new(const mq_model* model, double temperature, int64_t top_k, double top_p,
                                double repetition_penalty, uint64_t seed, mq_sampler** sampler);

MQ_API void mq_sampler_free(mq_sampler* sampler);

/* Choose the next token from `logits` (vocab_size). `before` are the `count` tokens that the penalty is for; it may be
 * NULL where `count` is 0.
 *
 * MQ_ERROR_USAGE: a token of `before` is outside the vocabulary. */
MQ_API mq_status mq_sample(mq_sampler* sampler, const int16_t* logits, const int32_t* before, int64_t count,
                           int32_t* token);

#ifdef __cplusplus
}
#endif

#endif
