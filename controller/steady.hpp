#pragma once
// The service's own time, which nobody steps, and when to try again after failing.

#include <algorithm>
#include <chrono>

namespace smtpfence {

using Steady = std::chrono::steady_clock;

/// When something is to be tried again: `first` after it failed, then twice as long each time, up to `longest`.
class Retry {
public:
    explicit Retry(Steady::duration first, Steady::duration longest = std::chrono::seconds(30))
        : first_(first), longest_(longest), pause_(first) {}
    bool due(Steady::time_point t) const { return t >= at_; }
    Steady::time_point at() const { return at_; }
    void failed(Steady::time_point t) {
        at_ = t + pause_;
        pause_ = std::min(pause_ * 2, longest_);
    }
    void succeeded() {
        at_ = {};
        pause_ = first_;
    }

private:
    Steady::duration first_, longest_, pause_;
    Steady::time_point at_{};
};

}  // namespace smtpfence
