#include "controller/keeping.hpp"

#include <fmt/format.h>

#include <utility>

namespace smtpfence {

namespace {

constexpr auto slow_disk = std::chrono::seconds(5);

}  // namespace

void Keeping::resume(const Snapshot& last) {
    file_.resume(last);
    doubted_ = false;
}

void Keeping::note(const Transaction& transaction, Instant now) {
    file_.append(transaction, now);
    changed_ = true;
    if (narrows(transaction)) ++taken_;
}

void Keeping::note(Revision revision) {
    if (revision_ != revision) changed_ = true;
    revision_ = revision;
    if (std::exchange(doubted_, false)) write_anew();
}

void Keeping::write_anew() {
    file_.write_anew();
    changed_ = true;
}

bool Keeping::keep(const Enforcement& enforcement, Instant now, Steady::time_point t) {
    bool news = false;
    if (background_.over()) {
        news = end_flush(now, t);
    } else if (background_.busy() && t - flush_began_ > slow_disk) {
        news =
            set_trouble(fmt::format("the last good fence in {} has not reached the disk for 5 s; what was revoked is "
                                    "in force, and is reported when a reboot can't give it back; see what keeps the "
                                    "disk busy",
                                    directory_.string()),
                        now);
    }
    return settle(enforcement, now, t) || news;
}

bool Keeping::settle(const Enforcement& enforcement, Instant now, Steady::time_point t) {
    if (!changed_ || publishes() || !enforcement.revision() || !retry_.due(t)) return false;
    try {
        file_.settle(enforcement.applied(), enforcement.guard().openings(), *enforcement.revision(), enforcement.mark(),
                     now);
    } catch (const SnapshotError& error) {
        return failed(error, now, t);
    }
    changed_ = false;
    settled_ = {taken_, *enforcement.revision()};
    return !file_.flush() && recovered(now);
}

void Keeping::flush(Steady::time_point t) {
    if (background_.busy()) return;
    flush_ = file_.flush();
    if (!flush_) return;
    flushing_ = settled_;
    flush_began_ = t;
    background_.start([flush = *flush_] { flush.run(); });
}

bool Keeping::end_flush(Instant now, Steady::time_point t) {
    const LastGood::Flush flush = *std::exchange(flush_, std::nullopt);
    try {
        background_.end();
    } catch (const SnapshotError& error) {
        file_.failed(flush);
        changed_ = true;
        return failed(error, now, t);
    }
    file_.succeeded(flush);
    if (taken_on_disk_ != flushing_.taken || flush.publishes()) reportable_ = flushing_.revision;
    taken_on_disk_ = flushing_.taken;
    return !changed_ && recovered(now);
}

bool Keeping::finish(const Enforcement& enforcement, Instant now, Steady::time_point t) {
    bool news = keep(enforcement, now, t);
    for (flush(t); background_.busy(); flush(t)) {
        news = end_flush(now, t) || news;
        news = settle(enforcement, now, t) || news;
    }
    return news;
}

std::optional<Revision> Keeping::reportable(Revision in_force) {
    if (!waits()) reportable_ = in_force;
    return reportable_;
}

bool Keeping::set_trouble(const std::string& reason, Instant now) {
    const bool news = trouble_.reason() != reason;
    trouble_.set(reason, now);
    return news;
}

bool Keeping::failed(const SnapshotError& error, Instant now, Steady::time_point t) {
    retry_.failed(t);
    return set_trouble(error.what(), now);
}

bool Keeping::recovered(Instant now) {
    retry_.succeeded();
    const bool news = trouble_.reason().has_value();
    trouble_.clear(now);
    return news;
}

Steady::time_point Keeping::next(Steady::time_point t) const {
    return changed_ && revision_ >= 0 && !publishes() ? std::max(t, retry_.at()) : Steady::time_point::max();
}

}  // namespace smtpfence
