#pragma once
// The clock that rights go by. It is the machine's, but for a step of more than ten minutes while the kernel does not
// call it synchronised: such a clock is held where it would be without the step (the machine's uptime goes on counting)
// until it is synchronised, is set back, or a quarter of an hour is over. Decides only; every reading is passed in.
//
//   TrustedClock clock(read_clock());
//   clock.not_before(last_good.written);           // at the start: a machine may wake in 1970
//   if (clock.look(read_clock()) != ClockEvent::none) ...;
//   Instant now = clock.at(uptime());

#include <optional>
#include <string>

#include "subscribers/instant.hpp"

namespace smtpfence {

/// What the machine says at one moment.
struct ClockReading {
    using Time = std::chrono::microseconds;
    Time wall{};  ///< CLOCK_REALTIME, since 1970
    Time boot{};  ///< CLOCK_BOOTTIME, since the machine started
    bool synchronised = false;
};
/// `synchronised`: the kernel says so (adjtimex(2): setting the clock takes it back, an NTP daemon gives it) and names
/// an error below 16 s. False as well when it may not be asked.
ClockReading read_clock();
/// CLOCK_BOOTTIME alone.
ClockReading::Time uptime();

enum class ClockEvent {
    none,
    stepped,    ///< somebody set it; it is taken as it is
    held,       ///< somebody set it; rights go on by the clock from before
    taken,      ///< it was held, and is taken now
    went_back,  ///< it was held, and is again within `tolerated` of where it was before
};

class TrustedClock {
public:
    /// Larger steps are held.
    static constexpr Seconds tolerated{600};
    /// For so long: three times what an NTP daemon needs that asks every 64 s. Who sets a machine's clock by hand and
    /// has no such daemon waits no longer.
    static constexpr Seconds longest_hold{900};

    explicit TrustedClock(const ClockReading& reading) : offset_(reading.wall - reading.boot), last_(reading) {}

    /// It was this late before: a clock that is behind by more than `tolerated` is held there, until it is synchronised
    /// or as late as that.
    ClockEvent not_before(Instant);
    /// Whether somebody set the clock since the last reading; below two seconds nobody did (a clock that is slewed).
    ClockEvent look(const ClockReading&);

    /// What rights go by, at this uptime.
    Instant at(ClockReading::Time boot) const { return Instant(std::chrono::floor<Seconds>(boot + offset_)); }
    /// The same as what is added to the uptime.
    std::chrono::milliseconds since_start() const {
        return std::chrono::duration_cast<std::chrono::milliseconds>(offset_);
    }
    /// By how much the clock was set, forward or back, at the last event.
    Seconds step() const { return step_; }
    /// By how much the machine's clock is ahead of what rights go by, rounded up: whoever adds it to an end doesn't
    /// wake before. 0 unless held.
    Seconds ahead() const;
    bool held() const { return held_.has_value(); }
    /// As of the last reading.
    bool synchronised() const { return last_.synchronised; }
    /// What the last event means for rights, in one line. The same words as long as the clock is held.
    std::string words() const;

private:
    struct Hold {
        Instant since;              ///< by at()
        ClockReading::Time boot{};  ///< since then
        Instant earliest{};         ///< never taken before, but synchronised
    };

    void hold(Seconds step);

    ClockReading::Time offset_;  ///< from uptime to what rights go by
    ClockReading last_;
    Seconds step_{};
    ClockEvent event_ = ClockEvent::none;
    std::optional<Hold> held_;
};

}  // namespace smtpfence
