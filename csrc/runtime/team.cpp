#include "runtime/team.h"

#include <algorithm>

#include "package/error.h"

namespace mobilequant {
namespace {

// Long enough for what another member still has to do between two barriers, short enough to cost a busy machine
// nothing: a waiting thread that never sleeps takes the core from the one that it waits for.
constexpr int kLooks = 4000;

void pause_thread() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace

void Team::Turn::next() {
    value_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) value_.notify_all();
}

void Team::Turn::await(std::uint32_t left) const {
    for (int look = 0; look < kLooks; ++look) {
        if (now() != left) return;
        pause_thread();
    }
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    value_.wait(left, std::memory_order_seq_cst);
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

Team::Team(int size) {
    if (size < 1 || size > kMaxThreads)
        throw UsageError("the number of threads must be 1 to " + std::to_string(kMaxThreads));
    try {
        for (int index = 1; index < size; ++index) threads_.emplace_back([this, index] { worker(index); });
    } catch (...) {  // the system gives no more threads
        stop();
        throw;
    }
}

Team::~Team() { stop(); }

void Team::stop() {
    stopping_ = true;
    start_.next();
    for (std::thread& thread : threads_) thread.join();
}

void Team::run(const std::function<void(const Member&)>& work) {
    work_ = &work;
    start_.next();
    work(Member(*this, 0));
    barrier();
}

void Team::worker(int index) {
    for (std::uint32_t turn = 0;; ++turn) {
        start_.await(turn);
        if (stopping_) return;
        (*work_)(Member(*this, index));
        barrier();
    }
}

void Team::barrier() {
    const std::uint32_t turn = meeting_.now();
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < size()) return meeting_.await(turn);
    arrived_.store(0, std::memory_order_relaxed);
    meeting_.next();
}

int Member::size() const { return team_.size(); }
void Member::barrier() const { team_.barrier(); }

Share share_of(std::int64_t count, int index, int size, std::int64_t unit) {
    const std::int64_t units = (count + unit - 1) / unit, each = units / size, more = units % size;
    const std::int64_t first = index * each + std::min<std::int64_t>(index, more);
    const std::int64_t last = first + each + (index < more ? 1 : 0);
    return {std::min(first * unit, count), std::min(last * unit, count)};
}

}  // namespace mobilequant
