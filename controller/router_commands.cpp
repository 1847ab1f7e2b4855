// status, router and attempts: what the routers report.

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "controller/commands.hpp"
#include "controller/facts_shown.hpp"
#include "controller/lookout.hpp"
#include "subscribers/revision.hpp"
#include "subscribers/router.hpp"

namespace smtpfence {

namespace {

bool alive(const Report& report, Instant time) { return time - report.heartbeat < heartbeat_limit; }

// How long a router has been behind: since the first revision that it does not enforce.
int64_t lag_seconds(Database& database, const Report& report, Revision desired, Instant time) {
    if (report.revision >= desired) return 0;
    const auto missed = revision_time(database, report.revision + 1);
    return missed ? std::max<int64_t>(0, (time - *missed).count()) : 0;
}

std::vector<std::string> joined(std::vector<std::string> all, const std::vector<std::string>& more) {
    all.insert(all.end(), more.begin(), more.end());
    return all;
}

/// `doubts`: what is to be said about the database, whichever router reads it.
Json status_of(Database& database, const Report& report, const std::vector<std::string>& doubts, Instant time) {
    const Revision desired = current_revision(database);
    return {{"router", report.router},
            {"revision", report.revision},
            {"desired_revision", desired},
            {"lag_seconds", lag_seconds(database, report, desired, time)},
            {"live", alive(report, time)},
            {"heartbeat", format_instant(report.heartbeat)},
            {"last_pass", json_of(report.last_pass)},
            {"verified_at", json_of(report.verified_at)},
            {"drift_healed", report.drift_healed},
            {"guard", report.guard ? Json::parse(*report.guard, nullptr, false) : Json()},
            {"error", json_of(report.error)},
            {"error_since", json_of(report.error_since)},
            {"version", report.version},
            {"warnings", joined(warnings_in(report.notes), doubts)},
            {"notes", notes_without_warnings(report.notes)}};
}

std::string error_with_time(const Json& item) {
    if (item["error"].is_null()) return "-";
    const std::string error = item["error"].get<std::string>();
    return item["error_since"].is_null() ? error
                                         : fmt::format("{} (since {})", error, item["error_since"].get<std::string>());
}

std::string guard_since(const Json& item) {
    return item["guard"].is_object() ? "withholds since " + item["guard"].value("since", "?") : "-";
}
Tone guard_tone(const Json& item) { return item["guard"].is_object() ? Tone::bad : Tone::plain; }

Tone live_tone(const Json& item) { return item["live"].get<bool>() ? Tone::good : Tone::bad; }
Tone error_tone(const Json& item) { return item["error"].is_null() ? Tone::plain : Tone::bad; }

void print_status(Invocation& run) {
    Database& database = run.database();
    const Reading reading(database);
    const Instant time = now();
    const std::vector<std::string> doubts = missing_relays(relays(database), pools(database));
    Listing listing(run.output(), {{"router", "ROUTER"},
                                   {"revision", "REVISION"},
                                   {"desired_revision", "DESIRED"},
                                   {"lag_seconds", "LAG S"},
                                   {"live", "LIVE", {}, live_tone},
                                   {"heartbeat", ""},
                                   {"last_pass", "LAST PASS"},
                                   {"verified_at", "VERIFIED AT"},
                                   {"drift_healed", "DRIFT HEALED"},
                                   {"guard", "GUARD", guard_since, guard_tone},
                                   {"error", "ERROR", error_with_time, error_tone},
                                   {"error_since", ""},
                                   {"version", "VERSION"},
                                   {"warnings", ""},
                                   {"notes", ""}});
    const auto all = reports(database);
    for (const Report& report : all) listing.add(status_of(database, report, doubts, time));
    listing.finish();
    if (all.empty()) run.output().note("no router has reported: smtpfence run enlists one");
    if (run.output().style() != Style::table) return;
    for (const Report& report : all) {
        for (const std::string& warning : warnings_in(report.notes))
            run.output().warn(fmt::format("{}: {}", report.router, warning));
    }
    for (const std::string& doubt : doubts) run.output().warn(doubt);
}

int watch_status(Invocation& run) {
    if (isatty(STDOUT_FILENO) != 1 || run.output().style() != Style::table) {
        throw Refused(Refusal::usage, "status --watch redraws a terminal: without one, call status again and again");
    }
    while (run.output().data()) {
        run.output().data() << "\x1b[H\x1b[2J";
        print_status(run);
        run.output().data() << std::flush;
        std::this_thread::sleep_for(std::chrono::seconds(1));
    }
    return 1;
}

std::string reason_of(Database& database, const Attempts& seen) {
    if (seen.sources.empty()) return "counted, and nothing more is known";
    const auto pool = pool_of(database, seen.sources.front());
    if (!pool) return "counted; in no pool now";
    const std::string where = fmt::format("pool {}", pool->prefix.text());
    switch (pool->action) {
        case Action::drop:
            return fmt::format("dropped by {}", where);
        case Action::reject:
            return fmt::format("rejected by {}", where);
        case Action::observe:
            return fmt::format("let through and counted by {}: drop or reject would stop it", where);
        case Action::pass:
            break;
    }
    return fmt::format("counted before; {} passes everything now", where);
}

}  // namespace

Execution status_command(CLI::App& app) {
    auto watch = std::make_shared<bool>(false);
    app.add_flag("--watch", *watch, "redraw every second until interrupted");
    return [=](Invocation& run) {
        if (*watch) return watch_status(run);
        print_status(run);
        return 0;
    };
}

Execution router_list(CLI::App&) {
    return [](Invocation& run) {
        const Instant time = now();
        Listing listing(run.output(), {{"router", "ROUTER"},
                                       {"live", "LIVE", {}, live_tone},
                                       {"revision", "REVISION"},
                                       {"heartbeat", "HEARTBEAT"},
                                       {"version", "VERSION"}});
        for (const Report& report : reports(run.database())) {
            listing.add({{"router", report.router},
                         {"live", alive(report, time)},
                         {"revision", report.revision},
                         {"heartbeat", format_instant(report.heartbeat)},
                         {"version", report.version}});
        }
        listing.finish();
        return 0;
    };
}

Execution router_forget(CLI::App& app) {
    auto name = std::make_shared<Text>();
    app.add_option("NAME", *name, "as router list shows it")->required();
    return [=](Invocation& run) {
        if (!forget_router(run.database(OpenMode::write), *name)) {
            throw Refused(Refusal::not_found,
                          fmt::format("router \"{}\" is unknown: see smtpfence router list", visible(*name)));
        }
        run.output().result({{"router", *name}, {"forgotten", true}},
                            fmt::format("router {} forgotten; it comes back when it reports again", *name));
        return 0;
    };
}

Execution attempts_command(CLI::App& app) {
    struct Words {
        Text since = "24h", pool, action;
    };
    auto words = std::make_shared<Words>();
    app.add_option("--since", words->since, "how far back, like 7d; default 24h")->type_name("DURATION");
    CLI::Option* has_pool = app.add_option("--pool", words->pool, "only sources in this pool")->type_name("PREFIX");
    CLI::Option* has_action = app.add_option("--action", words->action, "only sources in pools with this action")
                                  ->type_name("drop|reject|observe|pass");
    return [=](Invocation& run) {
        const Instant since = now() - parse_duration(words->since);
        std::optional<Prefix> pool;
        if (has_pool->count() > 0) pool = Prefix::parse(words->pool);
        std::optional<Action> action;
        if (has_action->count() > 0) action = parse_action(words->action);
        Database& database = run.database();
        Listing listing(run.output(), {{"customer", "CUSTOMER"},
                                       {"level", ""},
                                       {"attempts", "ATTEMPTS"},
                                       {"destinations", ""},
                                       {"first_seen", "FIRST SEEN"},
                                       {"last_seen", "LAST SEEN"},
                                       {"sources", "SOURCES"},
                                       {"reason", "REASON"}});
        for (const Attempts& seen : attempts(database, since, pool, action)) {
            const Json facts = shown(seen);
            listing.add({{"customer", json_of(seen.customer)},
                         {"level", nullptr},
                         {"attempts", facts["attempts"]},
                         {"destinations", nullptr},
                         {"first_seen", facts["first_seen"]},
                         {"last_seen", facts["last_seen"]},
                         {"sources", facts["sources"]},
                         {"reason", reason_of(database, seen)}});
        }
        listing.finish();
        return 0;
    };
}

}  // namespace smtpfence
