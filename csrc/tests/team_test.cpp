// Threads that meet at barriers: all work is done, once, and is seen behind the barrier. ThreadSanitizer runs this too.
#include "runtime/team.h"

#include <numeric>
#include <vector>

#include "package/error.h"
#include "tests/check.h"

namespace mobilequant {
namespace {

// Each member writes its place, and reads all places behind the barrier, again and again.
void barriers(int size) {
    constexpr int kRounds = 40, kRuns = 4;
    Team team(size);
    std::vector<std::int64_t> places(static_cast<std::size_t>(size));
    std::vector<std::int64_t> wrong(static_cast<std::size_t>(size));
    for (int run = 0; run < kRuns; ++run) {
        team.run([&](const Member& member) {
            const auto me = static_cast<std::size_t>(member.index());
            for (int round = 0; round < kRounds; ++round) {
                places[me] = round + member.index();
                member.barrier();
                const std::int64_t sum = std::accumulate(places.begin(), places.end(), std::int64_t{0});
                wrong[me] += sum != std::int64_t{round} * size + size * (size - 1) / 2;
                member.barrier();
            }
        });
    }
    CHECK(std::accumulate(wrong.begin(), wrong.end(), std::int64_t{0}) == 0);
}

// Members that arrive late: the others fall asleep and are woken.
void late(int size) {
    Team team(size);
    std::vector<int> done(static_cast<std::size_t>(size));
    for (int run = 0; run < 3; ++run) {
        team.run([&](const Member& member) {
            if (member.index() == run % member.size()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
            ++done[static_cast<std::size_t>(member.index())];
            member.barrier();
        });
    }
    for (const int each : done) CHECK(each == 3);
}

// Shares fill the whole, in order, in whole units, and differ by one unit at most.
void shares(int size) {
    Team team(size);
    for (const std::int64_t count : {0, 1, 7, 8, 64, 1000}) {
        for (const std::int64_t unit : {1, 4, 32}) {
            std::vector<Share> all(static_cast<std::size_t>(size));
            team.run([&](const Member& member) {
                all[static_cast<std::size_t>(member.index())] = member.share(count, unit);
            });
            std::int64_t next = 0, smallest = count, largest = 0;
            for (const auto& [first, last] : all) {
                CHECK(first == next && last >= first && (last % unit == 0 || last == count));
                smallest = std::min(smallest, (last - first + unit - 1) / unit);
                largest = std::max(largest, (last - first + unit - 1) / unit);
                next = last;
            }
            CHECK(next == count && largest - smallest <= 1);
        }
    }
}

void sizes() {
    for (const int size : {0, -1, Team::kMaxThreads + 1}) CHECK(test::throws<UsageError>([&] { Team{size}; }));
    for (int size = 1; size <= 8; ++size) Team{size};  // never asked to do anything
}

}  // namespace
}  // namespace mobilequant

int main() {
    for (int size = 1; size <= 8; ++size) {
        mobilequant::barriers(size);
        mobilequant::late(size);
        mobilequant::shares(size);
    }
    mobilequant::sizes();
    return mobilequant::test::result();
}
