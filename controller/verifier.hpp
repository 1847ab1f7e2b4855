#pragma once
// When the service looks at the kernel, how much of it, and when it tries again after the kernel refused.

#include "controller/enforcement.hpp"
#include "controller/steady.hpp"

namespace smtpfence {

class Verifier {
public:
    Verifier(Kernel& kernel, Enforcement& enforcement) : kernel_(kernel), enforcement_(enforcement) {}

    bool due(Steady::time_point t) const { return retry_.due(t); }
    /// The next verify() is thorough.
    bool thorough(Steady::time_point t) const { return t >= next_thorough_; }
    void hurry() { next_thorough_ = {}; }

    enum class Sweep { next, whole };
    /// Listens, verifies, and sweeps a little: in less than a twentieth of the time, or all of it. Returns the number
    /// of differences that were put right, and says them in the journal. `period`: of thorough ones. Throws
    /// KernelError.
    size_t verify(Instant now, Steady::time_point, Seconds period, Sweep);

    void succeeded();
    /// What is over at once is tried again at once, the first time; anything else after a pause.
    void failed(const KernelError&, Steady::time_point);

    Steady::time_point next(Steady::time_point) const;

private:
    size_t sweep(Instant now, Steady::time_point);

    Kernel& kernel_;
    Enforcement& enforcement_;
    Steady::time_point next_thorough_ = Steady::now() + std::chrono::minutes(1), next_sweep_{};
    Steady::duration spent_{};  ///< by the sweep, in this burst
    // Short at first: a revocation may have met a refusal that is over already.
    Retry retry_{std::chrono::milliseconds(100), std::chrono::seconds(5)};
    bool hurried_ = false;
    bool swept_ = false;
};

}  // namespace smtpfence
