#include "controller/waiting.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <thread>

namespace smtpfence {

namespace {

using std::chrono::steady_clock;

constexpr std::chrono::microseconds shortest_pause{200}, longest_pause{5000};
// Who waited so long for the database's lock may meet a router that could not report meanwhile: it does so at once, but
// for the pause between its tries.
constexpr std::chrono::seconds long_wait{1}, excused{2};
// Reports are read again after this long even if the engine says that nobody has committed.
constexpr std::chrono::milliseconds reread{100};

double milliseconds_since(SteadyTime start) {
    return std::chrono::duration<double, std::milli>(steady_clock::now() - start).count();
}

std::string why_behind(const Report& report, Revision wanted) {
    if (report.error) return *report.error;
    return fmt::format("still at revision {}, not yet at {}", report.revision, wanted);
}

// Why a router that enforces all of it holds the right to be over; "": it doesn't. Its clock may be held (status).
std::string why_over(const Report& report, Instant until) {
    if (!report.last_pass || until > *report.last_pass) return "";
    return fmt::format("clock: there it is {}, and the right ended at {}: see smtpfence status",
                       format_instant(*report.last_pass), format_instant(until));
}

// When it was committed, by both clocks.
struct Commit {
    SteadyTime steady;
    Instant time = now() - std::chrono::duration_cast<Seconds>(steady_clock::now() - steady);
};

// Brings the answers up to the reports. Returns whether a live router is still behind.
bool update(std::vector<Awaited>& answers, Database& database, const Granted& granted, Revision wanted,
            const Commit& committed) {
    bool behind = false;
    for (const Report& report : reports(database)) {
        auto answer =
            std::find_if(answers.begin(), answers.end(), [&](const Awaited& a) { return a.router == report.router; });
        if (answer == answers.end()) answer = answers.insert(answers.end(), Awaited{report.router, false, 0, ""});
        if (answer->enforced) continue;
        const bool silent = committed.time - report.heartbeat >= heartbeat_limit;
        if (silent && (database.waited() < long_wait || steady_clock::now() - committed.steady >= excused)) {
            answer->reason = fmt::format("no heartbeat since {}: see its journal, or smtpfence router forget {}",
                                         format_instant(report.heartbeat), report.router);
        } else if (report.revision >= wanted) {
            std::string reason = why_withheld(database, report, granted.prefixes);
            if (reason.empty()) reason = why_over(report, granted.until);
            *answer = {report.router, reason.empty(), milliseconds_since(committed.steady), reason};
        } else {
            answer->reason = why_behind(report, wanted);
            behind = true;
        }
    }
    return behind;
}

}  // namespace

std::string why_withheld(Database& database, const Report& report, const std::vector<Prefix>& prefixes) {
    if (!report.guard) return "";
    const std::vector<Prefix> withheld = withheld_of(database, report.router, prefixes);
    if (withheld.empty()) return "";
    const Json guard = Json::parse(*report.guard, nullptr, false);
    return fmt::format(
        "guard: {}{} is withheld: {}; if that is meant: smtpfence apply --confirm={}", withheld.front().text(),
        withheld.size() > 1 ? fmt::format(" and {} more", withheld.size() - 1) : "",
        guard.is_object() ? guard.value("reason", "?") : "?", guard.is_object() ? guard.value("digest", "?") : "?");
}

std::vector<Awaited> await_routers(Database& database, Revision wanted, SteadyTime committed, Seconds limit,
                                   const Granted& granted) {
    const Commit commit{committed};
    std::vector<Awaited> answers;
    auto pause = shortest_pause;
    SteadyTime read{};
    for (bool behind = true;;) {
        if (database.changed() == Seen::commit || steady_clock::now() - read >= reread) {
            read = steady_clock::now();
            behind = update(answers, database, granted, wanted, commit);
        }
        if (!behind || steady_clock::now() - committed >= limit) break;
        std::this_thread::sleep_for(pause);
        pause = std::min(pause + pause / 4, longest_pause);
    }
    std::sort(answers.begin(), answers.end(), [](const Awaited& a, const Awaited& b) { return a.router < b.router; });
    return answers;
}

bool all_enforce(const std::vector<Awaited>& answers) {
    return !answers.empty() && std::all_of(answers.begin(), answers.end(), [](const Awaited& a) { return a.enforced; });
}

Json json_of(const std::vector<Awaited>& answers) {
    Json all = Json::array();
    for (const Awaited& a : answers) {
        Json one = {{"router", a.router}, {"enforced", a.enforced}, {"milliseconds", nullptr}};
        if (a.enforced) {
            one["milliseconds"] = std::round(a.milliseconds * 1000) / 1000;
        } else {
            one["reason"] = a.reason;
        }
        all.push_back(std::move(one));
    }
    return all;
}

std::string sentence(const std::vector<Awaited>& answers) {
    std::string enforced, missing;
    for (const Awaited& a : answers) {
        if (a.enforced) {
            enforced += fmt::format("{}{} in {:.0f} ms", enforced.empty() ? "enforced on " : ", ", a.router,
                                    std::max(1.0, a.milliseconds));
        } else {
            missing += fmt::format("{}{} ({})", missing.empty() ? "not enforced on " : ", ", a.router, a.reason);
        }
    }
    if (answers.empty()) return "not enforced: no router has reported";
    return enforced + (enforced.empty() || missing.empty() ? "" : "; ") + missing;
}

}  // namespace smtpfence
