#pragma once
// A wake-up at a time of day, and the word that somebody set the clock: rights end by the time of day, the kernel
// counts down.

#include <optional>

#include "subscribers/instant.hpp"

namespace smtpfence {

class Alarm {
public:
    /// Throws std::system_error.
    Alarm();
    ~Alarm();
    Alarm(const Alarm&) = delete;
    Alarm& operator=(const Alarm&) = delete;

    /// Readable from the time that was set on, and at once when the clock is set.
    int descriptor() const { return descriptor_; }
    /// nullopt: only the setting of the clock wakes. Quiets a descriptor that is readable.
    void set(std::optional<Instant>);
    /// By how much somebody set the clock since the last call, forward or back; 0 below two seconds (a clock that is
    /// slewed, and the rounding of times).
    Seconds step();

private:
    int descriptor_ = -1;
    Seconds offset_;  ///< the time of day when the machine started
};

}  // namespace smtpfence
