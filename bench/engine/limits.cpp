// What the processor can do at most: int8 multiply-adds and reads from memory, with as many threads as are asked for.
//
//     g++ -O3 -march=native -std=c++17 -pthread limits.cpp -o limits && ./limits 1 2
//
// One JSON object: {"int8_instruction": …, "limits": [{"threads", "int8_gops", "read_gb_s", "read_76mb_gb_s"}, …]},
// each number the best of several tries: a limit is what nothing else disturbed. 1 multiply-add = 2 operations,
// 1 GB = 1e9 bytes. Every thread reads its own part of one array of 1 GiB, or, again and again, of one of 76 MB.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

namespace {

constexpr int kTries = 9;
constexpr int kAccumulators = 12;  // more than latency times throughput of any known core, and they fit the registers
constexpr int64_t kSteps = 8'000'000;
constexpr std::size_t kDramBytes = std::size_t{1} << 30;
constexpr std::size_t kCachedBytes = 76'000'000;  // what the smallest row reads for a token, Q4_0
constexpr int kCachedPasses = 16;

// The widest int8 dot product that the compiler was told of; kLanes multiply-adds in one step of one accumulator.
#if defined(__AVX512VNNI__)
using Register = __m512i;
constexpr const char* kInstruction = "vpdpbusd, 512 bits";
constexpr int kLanes = 64;
inline Register filled() { return _mm512_set1_epi8(1); }
inline Register step(Register sum, Register a, Register b) { return _mm512_dpbusd_epi32(sum, a, b); }
#elif defined(__AVXVNNI__)
using Register = __m256i;
constexpr const char* kInstruction = "vpdpbusd, 256 bits";
constexpr int kLanes = 32;
inline Register filled() { return _mm256_set1_epi8(1); }
inline Register step(Register sum, Register a, Register b) { return _mm256_dpbusd_avx_epi32(sum, a, b); }
#elif defined(__AVX2__)
using Register = __m256i;
constexpr const char* kInstruction = "vpmaddubsw, vpmaddwd, vpaddd, 256 bits";
constexpr int kLanes = 32;
inline Register filled() { return _mm256_set1_epi8(1); }
inline Register step(Register sum, Register a, Register b) {
  // The factor is hidden from the compiler, which would otherwise compute the product once for all steps.
  __asm__ volatile("" : "+x"(a));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)));
}
#elif defined(__ARM_FEATURE_DOTPROD)
using Register = int8x16_t;
constexpr const char* kInstruction = "sdot, 128 bits";
constexpr int kLanes = 16;
inline Register filled() { return vdupq_n_s8(1); }
inline Register step(Register sum, Register a, Register b) {
  return vreinterpretq_s8_s32(vdotq_s32(vreinterpretq_s32_s8(sum), a, b));
}
#else
using Register = int32_t;
constexpr const char* kInstruction = "scalar multiply-add";
constexpr int kLanes = 1;
inline Register filled() { return 1; }
inline Register step(Register sum, Register a, Register b) { return sum + a * b; }
#endif

#if defined(__x86_64__)
template <class T>
inline void keep(T& value) { __asm__ volatile("" : "+x"(value)); }
inline void keep(int32_t& value) { __asm__ volatile("" : "+r"(value)); }
#elif defined(__aarch64__)
template <class T>
inline void keep(T& value) { __asm__ volatile("" : "+w"(value)); }
inline void keep(int32_t& value) { __asm__ volatile("" : "+r"(value)); }
#endif

// Seconds from the moment when all threads have started until the last has ended.
double seconds(int threads, const std::function<void(int)>& work) {
  std::atomic<int> ready{0};
  std::atomic<bool> go{false};
  std::vector<std::thread> crew;
  for (int i = 0; i < threads; ++i) {
    crew.emplace_back([&, i] {
      ready.fetch_add(1);
      while (!go.load(std::memory_order_acquire)) std::this_thread::yield();
      work(i);
    });
  }
  while (ready.load() < threads) std::this_thread::yield();
  const auto begun = std::chrono::steady_clock::now();
  go.store(true, std::memory_order_release);
  for (auto& each : crew) each.join();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
}

double best(int threads, double amount, const std::function<void(int)>& work) {
  double found = 0;
  for (int i = 0; i < kTries; ++i) found = std::max(found, amount / seconds(threads, work));
  return found;
}

// The indices are constants, so that every sum stays in a register.
template <std::size_t... J>
void multiply(std::index_sequence<J...>) {
  Register sums[] = {((void)J, filled())...};
  Register a = filled(), b = filled();
  keep(a);
  keep(b);
  for (int64_t i = 0; i < kSteps; ++i) {
    // Kept, or the compiler folds equal steps.
    ((sums[J] = step(sums[J], a, b), keep(sums[J])), ...);
  }
}

// 64 bytes, whatever registers the processor has: the compiler splits it.
typedef int32_t Line __attribute__((vector_size(64)));

void read_all(const Line* begin, const Line* end) {
  constexpr int kLines = 4;  // in one step
  Line a{}, b{}, c{}, d{};
  for (const Line* at = begin; at + kLines <= end; at += kLines) {
    a += at[0];
    b += at[1];
    c += at[2];
    d += at[3];
  }
  const Line sum = a + b + c + d;
  int32_t total = 0;
  for (int i = 0; i < 16; ++i) total += sum[i];  // all of it, or the compiler reads less
  volatile int32_t kept = total;
  (void)kept;
}

double read_gb_s(const Line* array, std::size_t bytes, int passes, int threads) {
  const std::size_t lines = bytes / sizeof(Line);
  const auto work = [&](int thread) {
    const Line* begin = array + lines * thread / threads;
    const Line* end = array + lines * (thread + 1) / threads;
    for (int i = 0; i < passes; ++i) read_all(begin, end);
  };
  return best(threads, 1e-9 * static_cast<double>(bytes) * passes, work);
}

}  // namespace

int main(int count, char** given) {
  auto* array = static_cast<Line*>(std::aligned_alloc(std::size_t{1} << 21, kDramBytes));
  if (array == nullptr) {
    std::fprintf(stderr, "no memory for an array of 1 GiB: end other programs\n");
    return 1;
  }
#if defined(__linux__)
  madvise(array, kDramBytes, MADV_HUGEPAGE);  // the limit is that of the memory, not of the translation of addresses
#endif
  std::memset(array, 1, kDramBytes);
  std::printf("{\"int8_instruction\": \"%s\", \"limits\": [", kInstruction);
  for (int i = 1; i < count; ++i) {
    const int threads = std::max(1, std::atoi(given[i]));
    const double operations = 2e-9 * kLanes * kAccumulators * static_cast<double>(kSteps) * threads;
    const double gops = best(threads, operations, [](int) { multiply(std::make_index_sequence<kAccumulators>()); });
    const double dram = read_gb_s(array, kDramBytes, 1, threads);
    const double cached = read_gb_s(array, kCachedBytes, kCachedPasses, threads);
    std::printf("%s{\"threads\": %d, \"int8_gops\": %.1f, \"read_gb_s\": %.2f, \"read_76mb_gb_s\": %.2f}",
                i > 1 ? ", " : "", threads, gops, dram, cached);
  }
  std::printf("]}\n");
  std::free(array);
  return 0;
}
