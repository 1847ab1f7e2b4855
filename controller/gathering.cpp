#include "controller/gathering.hpp"

#include <ctime>

namespace smtpfence {

namespace {

using namespace std::chrono_literals;

/// What was used is paid off with so many times as much time. Idle time before pays as well, for changes that by chance
/// come close together.
constexpr int share = 10;
constexpr Steady::duration saved = 100ms;
constexpr Steady::duration shortest = 1ms, longest = 8ms;

}  // namespace

Steady::duration used_cpu() {
    timespec used{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

void Gathering::passed(Steady::time_point t, Steady::duration used) {
    paid_ = std::clamp(paid_ + share * (used - used_), t - saved, t + longest);
    used_ = used;
    until_ = std::max(paid_, t + shortest);
}

}  // namespace smtpfence
