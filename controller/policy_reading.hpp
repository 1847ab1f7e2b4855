#pragma once
// A whole policy, read in a thread of its own over a session of its own, while its owner reads something else or
// follows. At a million exemptions that takes longer than all else that a start does.
//
//   PolicyReading reading(url, now());
//   ...                                                    // reading.descriptor() is readable when it is over
//   if (auto whole = reading.take()) bring_up(whole->policy, what changed since);

#include <future>
#include <mutex>
#include <optional>
#include <string>

#include "subscribers/policy.hpp"

namespace smtpfence {

struct WholePolicy {
    Policy policy;
    std::string mark;  ///< revision_mark() of its revision
    Instant time;      ///< what ended before is left out
};

class PolicyReading {
public:
    /// Begins. Throws nothing: what fails is a reading without result.
    PolicyReading(std::string url, Instant now);
    /// Ends the reading, whatever is left of it.
    ~PolicyReading();
    PolicyReading(const PolicyReading&) = delete;
    PolicyReading& operator=(const PolicyReading&) = delete;

    /// Readable when it is over; -1: nothing tells.
    int descriptor() const { return bell_; }
    /// take() doesn't wait.
    bool over() const;
    /// Waits for the end and hands over what was read, once. nullopt: it failed, or was taken.
    std::optional<WholePolicy> take();
    bool taken() const { return taken_; }

private:
    class Interruptible;
    std::optional<WholePolicy> read(const std::string& url, Instant now);

    int bell_ = -1;
    bool taken_ = false;
    std::mutex mutex_;
    Database* session_ = nullptr;  ///< while it is read
    std::future<std::optional<WholePolicy>> result_;
};

}  // namespace smtpfence
