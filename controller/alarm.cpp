#include "controller/alarm.hpp"

#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace smtpfence {

namespace {

// A timer that is not armed hears nothing of the clock.
constexpr Instant far_away{Seconds{int64_t{1} << 40}};

}  // namespace

Alarm::Alarm() {
    descriptor_ = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (descriptor_ < 0) throw std::system_error(errno, std::generic_category(), "timerfd_create");
}

Alarm::~Alarm() { close(descriptor_); }

void Alarm::set(std::optional<Instant> at) {
    itimerspec when{};
    when.it_value.tv_sec = to_number(std::min(at.value_or(far_away), far_away));
    // A time of 0 would disarm it. ECANCELED: the clock was set since the last call; it is armed all the same.
    when.it_value.tv_nsec = 1;
    timerfd_settime(descriptor_, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &when, nullptr);
}

}  // namespace smtpfence
