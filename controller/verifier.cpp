#include "controller/verifier.hpp"

#include <cerrno>
#include <utility>

#include "controller/culprits.hpp"

namespace smtpfence {

namespace {

/// Exemptions in one piece of a sweep: a millisecond. Between two of them the service sees to what has come meanwhile.
constexpr size_t slice = 1000;
/// Pieces follow each other for so long: after a rest they meet cold caches, which made each five times as expensive.
constexpr auto burst = std::chrono::milliseconds(500);
/// The rest after a burst, as a multiple of what it took: in the first sweep, and afterwards.
constexpr int first_rest = 1, rest = 20;

/// Whether the kernel's refusal is none: an answer was lost, or somebody else committed.
bool passing(int code) { return code == ENOBUFS || code == EAGAIN || code == EINTR || code == ERESTART; }

}  // namespace

size_t Verifier::verify(Instant now, Steady::time_point t, Seconds period, Sweep much) {
    const bool whole = thorough(t);
    if (whole) next_thorough_ = t + period;
    kernel_.listen();
    size_t healed = enforcement_.verify(now, whole);
    if (enforcement_.sweeping() && t >= next_sweep_) healed += sweep(now, t);
    while (much == Sweep::whole && enforcement_.sweeping()) healed += sweep(now, t);
    journal_drift(healed, enforcement_.culprits());
    return healed;
}

size_t Verifier::sweep(Instant now, Steady::time_point t) {
    const Steady::time_point began = Steady::now();
    const size_t healed = enforcement_.sweep(now, slice);
    const Steady::duration took = Steady::now() - began;
    spent_ += took;
    next_sweep_ = t;
    if (spent_ >= burst) next_sweep_ += took + (swept_ ? rest : first_rest) * std::exchange(spent_, {});
    if (!enforcement_.sweeping()) {
        swept_ = true;
        spent_ = {};
    }
    return healed;
}

void Verifier::succeeded() {
    retry_.succeeded();
    hurried_ = false;
}

void Verifier::failed(const KernelError& error, Steady::time_point t) {
    if (passing(error.code) && !hurried_) {
        hurried_ = true;
        hurry();
    } else {
        retry_.failed(t);
    }
}

Steady::time_point Verifier::next(Steady::time_point t) const {
    if (!due(t)) return retry_.at();
    const bool deaf = !kernel_.owned() && kernel_.listener() < 0;  // after a large commit
    if (deaf) return t;
    return enforcement_.sweeping() ? std::min(next_thorough_, next_sweep_) : next_thorough_;
}

}  // namespace smtpfence
