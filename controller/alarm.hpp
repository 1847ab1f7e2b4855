#pragma once
// A wake-up at a time of day, and when somebody set the clock: rights end by the time of day, the kernel counts down.

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

private:
    int descriptor_ = -1;
};

}  // namespace smtpfence
