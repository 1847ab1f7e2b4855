#include "controller/trusted_clock.hpp"

#include <fmt/format.h>
#include <sys/timex.h>

#include <ctime>

namespace smtpfence {

namespace {

using namespace std::chrono_literals;
using Time = ClockReading::Time;

/// The kernel's own limit (NTP_PHASE_LIMIT): a larger error is no synchronised clock's.
constexpr long largest_error = 16'000'000;

Time time_of(clockid_t clock) {
    timespec time{};
    clock_gettime(clock, &time);
    return std::chrono::duration_cast<Time>(Seconds{time.tv_sec} + std::chrono::nanoseconds{time.tv_nsec});
}

bool kernel_is_synchronised() {
    timex state{};
    const int answer = adjtimex(&state);
    return answer >= 0 && answer != TIME_ERROR && (state.status & STA_UNSYNC) == 0 && state.maxerror < largest_error;
}

const char* direction(Seconds step) { return step > 0s ? "forward" : "back"; }

/// A large step to the minute: how long somebody took to set the clock is in it.
std::string size_of(Seconds step) {
    const Seconds size = std::chrono::abs(step);
    return format_duration(size > TrustedClock::tolerated ? std::chrono::round<std::chrono::minutes>(size) : size);
}

}  // namespace

Time uptime() { return time_of(CLOCK_BOOTTIME); }

ClockReading read_clock() {
    ClockReading reading;
    // A process that waits between the two calls would see a step.
    for (int tries = 0; tries < 10; ++tries) {
        reading.boot = uptime();
        reading.wall = time_of(CLOCK_REALTIME);
        if (uptime() - reading.boot < 10ms) break;
    }
    reading.synchronised = kernel_is_synchronised();
    return reading;
}

void TrustedClock::hold(Seconds step) {
    step_ = step;
    held_ = Hold{at(last_.boot), last_.boot};
    event_ = ClockEvent::held;
}

ClockEvent TrustedClock::not_before(Instant earliest) {
    const Seconds behind = earliest - at(last_.boot);
    if (behind <= tolerated || last_.synchronised) return ClockEvent::none;
    offset_ += behind;
    hold(-behind);
    held_->earliest = earliest;
    return event_;
}

ClockEvent TrustedClock::look(const ClockReading& reading) {
    last_ = reading;
    const Time fresh = reading.wall - reading.boot;
    const Seconds step = std::chrono::round<Seconds>(fresh - offset_);
    const Seconds size = std::chrono::abs(step);
    if (held_) {
        const bool late = Instant(std::chrono::floor<Seconds>(reading.wall)) >= held_->earliest;
        const bool over = reading.synchronised || (late && reading.boot - held_->boot >= longest_hold);
        if (!over && size > tolerated) return ClockEvent::none;
        event_ = over ? ClockEvent::taken : ClockEvent::went_back;
        held_.reset();
    } else if (size < 2s) {
        offset_ = fresh;
        return ClockEvent::none;
    } else if (size > tolerated && !reading.synchronised) {
        hold(step);
        return event_;
    } else {
        event_ = ClockEvent::stepped;
    }
    step_ = step;
    offset_ = fresh;
    return event_;
}

Seconds TrustedClock::ahead() const {
    return held_ ? std::chrono::ceil<Seconds>(last_.wall - last_.boot - offset_) : 0s;
}

std::string TrustedClock::words() const {
    const std::string by = size_of(step_);
    switch (event_) {
        case ClockEvent::none:
            return "nobody set the clock";
        case ClockEvent::stepped:
            return fmt::format("the clock was set {} by {}: the ends of rights are set anew", direction(step_), by);
        case ClockEvent::taken:
            return fmt::format("the clock, set {} by {}, is taken, as {}: the ends of rights are set anew",
                               direction(step_), by,
                               last_.synchronised ? "it is synchronised" : "a quarter of an hour is over");
        case ClockEvent::went_back:
            return "the clock is again within ten minutes of what it was: the ends of rights are set anew";
        case ClockEvent::held:
            break;
    }
    const std::string latest = held_->earliest == Instant{}
                                   ? fmt::format(", till {} at the latest", format_instant(held_->since + longest_hold))
                                   : "";
    return fmt::format(
        "the clock is {} {} what it was, since {}, and not synchronised: rights go on by the clock from before "
        "until it is{}; if it is wrong, set it; see timedatectl or chronyc tracking",
        by, step_ > 0s ? "ahead of" : "behind", format_instant(held_->since), latest);
}

}  // namespace smtpfence
