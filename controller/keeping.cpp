#include "controller/keeping.hpp"

namespace smtpfence {

void Keeping::resume(const Snapshot& last) {
    file_.resume(last);
    revision_ = last.revision;
}

void Keeping::note(const Transaction& transaction, Instant now) {
    file_.append(transaction, now);
    changed_ = true;
    if (narrows(transaction)) narrowed_ = true;
}

void Keeping::note(Revision revision) {
    if (revision_ != revision) changed_ = true;
    revision_ = revision;
}

bool Keeping::keep(const Enforcement& enforcement, Instant now, Steady::time_point t) {
    if (!changed_ || !enforcement.revision() || !retry_.due(t)) return false;
    try {
        file_.settle(enforcement.applied(), enforcement.guard().openings(), *enforcement.revision(), enforcement.mark(),
                     now);
    } catch (const SnapshotError& error) {
        return failed(error, now, t);
    }
    changed_ = narrowed_ = false;
    retry_.succeeded();
    const bool recovered = trouble_.reason().has_value();
    trouble_.clear(now);
    return recovered;
}

bool Keeping::synchronise(Instant now, Steady::time_point t) {
    if (!retry_.due(t)) return false;
    try {
        file_.synchronise();
        return false;
    } catch (const SnapshotError& error) {
        changed_ = true;
        return failed(error, now, t);
    }
}

bool Keeping::failed(const SnapshotError& error, Instant now, Steady::time_point t) {
    retry_.failed(t);
    const bool news = trouble_.reason() != error.what();
    trouble_.set(error.what(), now);
    return news;
}

Steady::time_point Keeping::next(Steady::time_point t) const {
    return changed_ && revision_ >= 0 ? std::max(t, retry_.at()) : Steady::time_point::max();
}

}  // namespace smtpfence
