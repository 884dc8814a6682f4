// Threads that do the same work side by side, each on its share, and meet at barriers.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace mobilequant {

class Team;

// The share [first, last) of `count` items of one of `size` members, in whole units; shares differ by one unit at most.
struct Share {
    std::int64_t first, last;
};
Share share_of(std::int64_t count, int index, int size, std::int64_t unit = 1);

// One thread of a team, inside Team::run.
class Member {
  public:
    int index() const { return index_; }
    int size() const;

    // Wait until all members are here. What they wrote before is seen by all behind it.
    void barrier() const;

    Share share(std::int64_t count, std::int64_t unit = 1) const { return share_of(count, index_, size(), unit); }

  private:
    friend class Team;
    Member(Team& team, int index) : team_(team), index_(index) {}
    Team& team_;
    int index_;
};

// A fixed number of threads, the calling one among them. Between two calls of `run` they sleep.
class Team {
  public:
    // Throws UsageError: fewer than one thread, or more than kMaxThreads; std::system_error: the system gives no more.
    explicit Team(int size);
    ~Team();
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    static constexpr int kMaxThreads = 256;
    int size() const { return static_cast<int>(threads_.size()) + 1; }

    // Call `work` once on every member and return when all are done. Must not throw.
    void run(const std::function<void(const Member&)>& work);

  private:
    friend class Member;

    // A counter at which threads wait for the next value: they watch it for a moment, then sleep.
    class Turn {
      public:
        std::uint32_t now() const { return value_.load(std::memory_order_acquire); }
        void next();
        void await(std::uint32_t left) const;

      private:
        alignas(64) std::atomic<std::uint32_t> value_{0};
        mutable std::atomic<int> sleepers_{0};
    };

    void barrier();
    void worker(int index);
    void stop();

    std::vector<std::thread> threads_;
    const std::function<void(const Member&)>* work_ = nullptr;
    bool stopping_ = false;
    Turn start_, meeting_;
    alignas(64) std::atomic<int> arrived_{0};
};

}  // namespace mobilequant
