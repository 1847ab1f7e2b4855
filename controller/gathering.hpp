#pragma once
// How soon a pass may follow the last one. What is committed meanwhile goes into one pass, and what cancels out costs
// nothing. Who changes something now and then never waits: only a storm makes the service use much of its core.

#include "controller/steady.hpp"

namespace smtpfence {

/// CPU time that all threads of this process have used.
Steady::duration used_cpu();

class Gathering {
public:
    /// A pass with changes ended at `t`; by then the process had used `used` of CPU time.
    void passed(Steady::time_point t, Steady::duration used);
    /// The next pass is not before that.
    Steady::time_point until() const { return until_; }
    bool over(Steady::time_point t) const { return t >= until_; }
    /// The next pass is at once.
    void end() { until_ = {}; }

private:
    Steady::time_point until_{};
    Steady::time_point paid_{};  ///< by then what was used is no more than its share of the time
    Steady::duration used_{};
};

}  // namespace smtpfence
