#include "controller/gathering.hpp"

#include <ctime>

namespace smtpfence {

namespace {

using namespace std::chrono_literals;

constexpr int share = 10;  // CPU time is paid off with so many times as much time
constexpr Steady::duration saved =
    100ms;  // what passed idle before pays for as much: changes that by chance come close
constexpr Steady::duration shortest = 1ms, longest = 8ms;

}  // namespace

Steady::duration used_cpu() {
    timespec used{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

void Gathering::passed(Steady::time_point t, Steady::duration used) {
    const Steady::duration price = share * (used - used_);
    used_ = used;
    paid_ = std::min(std::max(paid_, t - saved) + price, t + longest);
    until_ = std::max(paid_, t + shortest);
}

}  // namespace smtpfence
