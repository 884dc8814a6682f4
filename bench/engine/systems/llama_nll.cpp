// How surprised llama.cpp is by windows of token ids, and how long it takes to be ready.
//
//     llama_nll MODEL.gguf THREADS [IDS.i32 WINDOW]
//
// IDS.i32 holds token ids as int32, little endian; each WINDOW of them is read alone from position 0, without BOS, and
// its tokens 2 … WINDOW are predicted: the protocol of src/mobilequant/evaluate/protocol.py. One JSON object:
// {"load_ms": from opening the file to a context that can decode, "nll": sum in nats, "predictions": …}.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <vector>

#include "llama.h"

namespace {

std::vector<llama_token> read_ids(const char* path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  std::vector<llama_token> ids(file ? static_cast<std::size_t>(file.tellg()) / sizeof(llama_token) : 0);
  file.seekg(0);
  file.read(reinterpret_cast<char*>(ids.data()), static_cast<std::streamsize>(ids.size() * sizeof(llama_token)));
  return ids;
}

// −log softmax(logits)[target], in nats.
double nll(const float* logits, int vocab, llama_token target) {
  const float top = *std::max_element(logits, logits + vocab);
  double sum = 0;
  for (int i = 0; i < vocab; ++i) sum += std::exp(static_cast<double>(logits[i] - top));
  return std::log(sum) + top - logits[target];
}

// Sum over the predictions of one window.
double window_nll(llama_context* context, llama_batch& batch, const llama_token* ids, int window, int vocab) {
  llama_memory_clear(llama_get_memory(context), true);
  batch.n_tokens = window - 1;
  for (int i = 0; i < batch.n_tokens; ++i) {
    batch.token[i] = ids[i];
    batch.pos[i] = i;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = 1;
  }
  if (llama_decode(context, batch) != 0) {
    std::fprintf(stderr, "llama_decode failed\n");
    std::exit(1);
  }
  double sum = 0;
  for (int i = 0; i < batch.n_tokens; ++i) sum += nll(llama_get_logits_ith(context, i), vocab, ids[i + 1]);
  return sum;
}

}  // namespace

int main(int count, char** given) {
  if (count != 3 && count != 5) {
    std::fprintf(stderr, "usage: llama_nll MODEL.gguf THREADS [IDS.i32 WINDOW]\n");
    return 1;
  }
  const int window = count == 5 ? std::atoi(given[4]) : 512;
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  const auto begun = std::chrono::steady_clock::now();
  llama_backend_init();
  llama_model* model = llama_model_load_from_file(given[1], llama_model_default_params());
  if (model == nullptr) {
    std::fprintf(stderr, "cannot load %s\n", given[1]);
    return 1;
  }
  llama_context_params params = llama_context_default_params();
  params.n_ctx = params.n_batch = params.n_ubatch = static_cast<uint32_t>(window);
  params.n_threads = params.n_threads_batch = std::atoi(given[2]);
  llama_context* context = llama_init_from_model(model, params);
  const std::chrono::duration<double, std::milli> load = std::chrono::steady_clock::now() - begun;

  const std::vector<llama_token> ids = count == 5 ? read_ids(given[3]) : std::vector<llama_token>();
  const int vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
  llama_batch batch = llama_batch_init(window, 0, 1);
  const std::size_t windows = ids.size() / static_cast<std::size_t>(window);
  double sum = 0;
  for (std::size_t i = 0; i < windows; ++i) sum += window_nll(context, batch, ids.data() + i * window, window, vocab);
  std::printf("{\"load_ms\": %.3f, \"nll\": %.9g, \"predictions\": %zu}\n", load.count(), sum, windows * (window - 1));
  llama_batch_free(batch);
  llama_free(context);
  llama_model_free(model);
  return 0;
}
