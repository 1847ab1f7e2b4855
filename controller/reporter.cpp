#include "controller/reporter.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "controller/journal.hpp"

namespace smtpfence {

namespace {

using namespace std::chrono_literals;

constexpr auto heartbeat_period = 5s;
/// News so soon after a report wait for more: a commit costs as much as the pass that it tells of.
constexpr auto report_pause = 10ms;
constexpr auto attempts_period = 10s;
/// Sources in one transaction: a few milliseconds, also while an attack fills the counters.
constexpr size_t attempts_slice = 1000;
constexpr Seconds history_period = 6h;
constexpr Seconds history_pause = 1s;  ///< while there is more to forget

AttemptReading read_counts(Kernel& kernel) {
    AttemptReading reading;
    for (const auto& [set, kind] : {std::pair{"attempts4", KeyKind::ipv4}, {"attempts6", KeyKind::ipv6}}) {
        for (const Counted& counted : kernel.counted(set)) {
            reading.counts.push_back({to_prefix(counted.key, kind), static_cast<int64_t>(counted.packets)});
        }
    }
    std::sort(reading.counts.begin(), reading.counts.end(),
              [](const AttemptCount& a, const AttemptCount& b) { return a.source < b.source; });
    return reading;
}

}  // namespace

Reporter::~Reporter() {
    if (shortened_) shortened_->interrupt();
}

void Reporter::asked(const std::vector<ApplyRequest>& requests, size_t changes) {
    for (const ApplyRequest& request : requests) asked_.push_back({request, changes});
}

std::vector<ApplyRequest> Reporter::unheard(std::vector<ApplyRequest> requests) const {
    std::erase_if(requests, [&](const ApplyRequest& request) {
        return std::any_of(asked_.begin(), asked_.end(),
                           [&](const Asked& asked) { return asked.request.number == request.number; });
    });
    return requests;
}

bool Reporter::write(Database& database, const Report& state, const History& history, Steady::time_point t) {
    if (!retry_.due(t) || !busy_.due(t)) return false;
    written_ = false;
    try {
        report(database, state, t);
        answer(database, state);
        read_attempts(database, state.router, history.now, t);
        forget(database, history.now - history.keep, t);
        busy_.succeeded();
        retry_.succeeded();
        unwritten_.clear();
    } catch (const DatabaseError& error) {
        if (error.kind == DatabaseError::Kind::busy) {
            busy_.failed(t);
            return written_;
        }
        retry_.failed(t);
        asked_.clear();
        if (unwritten_ != error.what()) journal(Level::warning, fmt::format("can't report: {}", error.what()));
        unwritten_ = error.what();
    }
    return written_;
}

void Reporter::answer(Database& database, const Report& state) {
    for (; !asked_.empty(); asked_.pop_front()) {
        const auto& [request, changes] = asked_.front();
        nlohmann::json result{{"ok", !state.error}, {"revision", state.revision}, {"changes", changes}};
        if (state.error) result["error"] = *state.error;
        if (state.guard) result["withheld"] = nlohmann::json::parse(*state.guard);
        const std::string words = result.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
        answer_request(database, request.number, words);
        written_ = true;
        journal(Level::info, fmt::format("apply requested by {}: {}", request.login, words));
    }
}

void Reporter::report(Database& database, const Report& state, Steady::time_point t) {
    if (t < next_report(t)) return;
    if (withheld_) write_withheld(database, state.router, *withheld_);
    withheld_.reset();
    write_report(database, state);
    shorten_log(database, t);
    written_ = true;
    report_due_ = false;
    last_report_ = t;
}

/// Nobody who follows waits for that.
void Reporter::shorten_log(Database& database, Steady::time_point t) {
    if (shortening_.over()) shortening_.end();
    if (t < next_shortening_ || shortening_.busy() || !database.log_is_long()) return;
    next_shortening_ = t + heartbeat_period;
    shortened_ = open_database(database.name(), OpenMode::write, service_patience);
    shortening_.start([session = shortened_.get()] { session->shorten_log(); });
}

void Reporter::read_attempts(Database& database, const std::string& router, Instant now, Steady::time_point t) {
    if (attempts_.done) {
        if (t < next_attempts_) return;
        next_attempts_ = t + attempts_period;
        attempts_ = read_counts(kernel_);
    }
    write_attempts(database, router, attempts_, now, attempts_slice);
    written_ = true;
}

void Reporter::forget(Database& database, Instant before, Steady::time_point t) {
    if (t < next_forget_) return;
    const bool more = forget_history(database, before);
    written_ = true;
    next_forget_ = t + (more ? history_pause : history_period);
}

Steady::time_point Reporter::next(Steady::time_point t) const {
    if (!retry_.due(t) || !busy_.due(t)) return std::max(retry_.at(), busy_.at());
    if (!asked_.empty() || !attempts_.done) return t;
    return std::max(t, std::min({next_report(t), next_attempts_, next_forget_}));
}

Steady::time_point Reporter::next_report(Steady::time_point t) const {
    if (!last_report_) return t;
    return *last_report_ + (report_due_ ? Steady::duration(report_pause) : heartbeat_period);
}

}  // namespace smtpfence
