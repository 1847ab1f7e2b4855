#include "subscribers/router.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "scratch.hpp"
#include "subscribers/customer.hpp"

using namespace smtpfence;

static Report report_of(const std::string& router, Revision revision) {
    Report report;
    report.router = router;
    report.revision = revision;
    report.heartbeat = now();
    report.version = "0.1.0";
    report.notes = "owner flag: yes\npersist flag: no";
    return report;
}

/// A whole reading, written in slices of one source; the number of sources with news.
static int64_t counted(Database& database, const std::string& router, std::vector<AttemptCount> counts, Instant t) {
    std::sort(counts.begin(), counts.end(), [](auto& a, auto& b) { return a.source < b.source; });
    AttemptReading reading{std::move(counts)};
    int64_t news = 0;
    while (!reading.done) news += write_attempts(database, router, reading, t, 1);
    return news;
}

static std::string shown(const Report& report) {
    return fmt::format("{} r{} pass {} verified {} healed {} error {}", report.router, report.revision,
                       report.last_pass ? format_instant(*report.last_pass) : "-",
                       report.verified_at ? format_instant(*report.verified_at) : "-", report.drift_healed,
                       report.error.value_or("-"));
}

TEST_CASE("router: reports are kept, one for each router, and take no revision") {
    ScratchDatabase database;
    Report edge2 = report_of("edge2", 7);
    write_report(*database, edge2);
    write_report(*database, report_of("edge1", 6));
    edge2.revision = 8;
    edge2.last_pass = edge2.verified_at = parse_instant("2027-01-01T00:00:00Z");
    edge2.drift_healed = 2;
    edge2.error = "kernel says no";
    edge2.error_since = parse_instant("2027-01-02T00:00:00Z");
    write_report(*database, edge2);
    const auto all = reports(*database);
    REQUIRE(all.size() == 2);
    CHECK(shown(all[0]) == "edge1 r6 pass - verified - healed 0 error -");
    CHECK(shown(all[1]) ==
          "edge2 r8 pass 2027-01-01T00:00:00Z verified 2027-01-01T00:00:00Z healed 2 error kernel says no");
    CHECK(all[1].error_since == edge2.error_since);
    CHECK(all[1].notes == "owner flag: yes\npersist flag: no");
    CHECK(all[1].version == "0.1.0");
    CHECK(all[1].heartbeat == edge2.heartbeat);
    CHECK(reported_revision(*database, "edge2") == 8);
    CHECK(reported_revision(*database, "edge3") == 0);
    CHECK(current_revision(*database) == 0);
    CHECK(forget_router(*database, "edge1"));
    CHECK_FALSE(forget_router(*database, "edge1"));
    CHECK(reports(*database).size() == 1);
}

TEST_CASE("router: a report is followed by full durability again") {
    ScratchDatabase database;
    const auto synchronous = [&] {
        int64_t level = -1;
        database->query("PRAGMA synchronous", {}, [&](const Row& row) { level = row.integer(0); });
        return level;
    };
    write_report(*database, report_of("edge1", 0));
    CHECK(synchronous() == 1);
    Change change(*database, alice, "test");
    CHECK(synchronous() == 2);
}

TEST_CASE("router: requests are answered once, by the router that is asked") {
    ScratchDatabase database;
    const int64_t first = request_apply(*database, "edge1", alice);
    const int64_t second = request_apply(*database, "edge1", {"bob", {}, "edge1"});
    const int64_t other = request_apply(*database, "edge2", alice);
    const auto open = open_requests(*database, "edge1");
    REQUIRE(open.size() == 2);
    CHECK(open[0].number == first);
    CHECK(open[0].login == "root");
    CHECK(open[1].number == second);
    CHECK_FALSE(request_answer(*database, first));
    answer_request(*database, first, "{\"changes\":3}");
    answer_request(*database, first, "{\"changes\":4}");
    CHECK(request_answer(*database, first) == "{\"changes\":3}");
    CHECK(open_requests(*database, "edge1").size() == 1);
    CHECK(open_requests(*database, "edge2").at(0).number == other);
    CHECK_FALSE(request_answer(*database, 99));
    CHECK(current_revision(*database) == 0);
    CHECK(withdraw_request(*database, second));
    CHECK_FALSE(withdraw_request(*database, second));
    CHECK_FALSE(withdraw_request(*database, first));
    CHECK(request_answer(*database, first) == "{\"changes\":3}");
    CHECK(open_requests(*database, "edge1").empty());
}

static std::string shown(const std::vector<Attempts>& all) {
    std::string result;
    for (const Attempts& line : all) {
        result += fmt::format("{}{} {}", result.empty() ? "" : ", ", line.customer.value_or("nobody"), line.attempts);
        for (const Prefix& source : line.sources) result += " " + source.short_text();
    }
    return result;
}

TEST_CASE("router: attempts count what grew, for who holds the address then") {
    ScratchDatabase database;
    committed(*database, [](Change& change) {
        assign(change, "c1", "100.64.3.7"_p, {}, false);
        assign(change, "c1", "2001:db8:0:ab00::/56"_p, {}, false);
        add_pool(change, "100.64.0.0/10"_p, {}, Action::observe);
        add_pool(change, "100.64.8.0/24"_p, {}, Action::drop);
        add_pool(change, "2001:db8::/32"_p, {}, Action::drop);
    });
    const Instant t = now();
    const auto all = [&] { return shown(attempts(*database, t - Seconds(60), {}, {})); };
    CHECK(counted(*database, "edge1", {{"100.64.3.7"_p, 5}, {"100.64.8.1"_p, 2}}, t) == 2);
    CHECK(all() == "c1 5 100.64.3.7, nobody 2 100.64.8.1");
    CHECK(counted(*database, "edge1", {{"100.64.3.7"_p, 5}, {"100.64.8.1"_p, 2}}, t) == 0);
    CHECK(counted(*database, "edge1", {{"100.64.3.7"_p, 9}, {"100.64.8.1"_p, 2}, {"2001:db8:0:ab01::1"_p, 1}}, t) == 2);
    CHECK(all() == "c1 10 100.64.3.7 2001:db8:0:ab01::1, nobody 2 100.64.8.1");
    CHECK(counted(*database, "edge1", {{"100.64.3.7"_p, 3}, {"2001:db8:0:ab01::1"_p, 1}}, t) == 1);  // anew
    CHECK(all() == "c1 13 100.64.3.7 2001:db8:0:ab01::1, nobody 2 100.64.8.1");
    CHECK(counted(*database, "edge1", {{"100.64.3.7"_p, 3}, {"2001:db8:0:ab01::1"_p, 1}, {"100.64.8.1"_p, 4}},
                  t) == 1);                                             // it had timed out
    CHECK(counted(*database, "edge2", {{"100.64.8.1"_p, 4}}, t) == 1);  // every router counts for itself
    CHECK(all() == "c1 13 100.64.3.7 2001:db8:0:ab01::1, nobody 10 100.64.8.1");
    CHECK(shown(attempts(*database, t - Seconds(60), "100.64.8.0/24"_p, {})) == "nobody 10 100.64.8.1");
    CHECK(shown(attempts(*database, t - Seconds(60), "100.64.0.0/10"_p, {})) == "c1 12 100.64.3.7");
    CHECK(shown(attempts(*database, t - Seconds(60), {}, Action::drop)) ==
          "nobody 10 100.64.8.1, c1 1 2001:db8:0:ab01::1");
    CHECK(shown(attempts(*database, t - Seconds(60), {}, Action::pass)).empty());

    // Handed to another customer, perhaps a second later: what was counted stays with the one who did it.
    committed(*database, [](Change& change) { assign(change, "c2", "100.64.3.7"_p, {}, true); });
    const Instant handed = now();
    counted(*database, "edge1", {{"100.64.3.7"_p, 4}, {"2001:db8:0:ab01::1"_p, 1}, {"100.64.8.1"_p, 4}}, handed);
    CHECK(all() == "c1 13 100.64.3.7 2001:db8:0:ab01::1, nobody 10 100.64.8.1, c2 1 100.64.3.7");
    const auto of_c1 = attempts_of(*database, "c1", t - Seconds(60));
    REQUIRE(of_c1);
    CHECK(of_c1->attempts == 13);
    CHECK(of_c1->first_seen == t);
    CHECK(of_c1->last_seen == t);
    CHECK_FALSE(attempts_of(*database, "c3", t - Seconds(60)));
    CHECK_FALSE(attempts_of(*database, "c1", t + Seconds(1)));
    CHECK(shown(attempts(*database, handed + Seconds(1), {}, {})).empty());
    CHECK(current_revision(*database) == 2);
}

TEST_CASE("router: attempts of several hours are one line") {
    ScratchDatabase database;
    const Instant t = parse_instant("2027-01-01T10:59:59Z");
    counted(*database, "edge1", {{"100.64.3.7"_p, 5}}, t);
    counted(*database, "edge1", {{"100.64.3.7"_p, 6}}, t + Seconds(1));
    const auto all = attempts(*database, t - Seconds(60), {}, {});
    CHECK(shown(all) == "nobody 6 100.64.3.7");
    CHECK(all[0].first_seen == t);
    CHECK(all[0].last_seen == t + Seconds(1));
    CHECK(shown(attempts(*database, t + Seconds(1), {}, {})) == "nobody 1 100.64.3.7");
}

TEST_CASE("router: history is forgotten, but for the last two hours and the audit log") {
    ScratchDatabase database;
    const auto rows = [&](const std::string& table) {
        int64_t count = 0;
        database->query("SELECT count(*) FROM " + table, {}, [&](const Row& row) { count = row.integer(0); });
        return count;
    };
    const auto fill = [&](const std::string& third) {
        committed(*database, [&](Change& change) {
            assign(change, "c1", Prefix::parse(third + ".1"), {}, false);
            release(change, Prefix::parse(third + ".1"));
            assign(change, "c1", Prefix::parse(third + ".2"), change.time() + Seconds(60), false);
            assign(change, "c1", Prefix::parse(third + ".3"), {}, false);
        });
        counted(*database, "edge1", {{Prefix::parse(third + ".1"), 1}}, now());
        request_apply(*database, "edge1", alice);
    };
    fill("100.64.1");
    let_pass(*database, Seconds(3 * 3600));
    fill("100.64.2");
    let_pass(*database, Seconds(3600));
    const auto all = [&] {
        return fmt::format("{} past, {} held, {} attempts, {} requests, {} audited", rows("past_assignment"),
                           rows("assignment"), rows("attempt"), rows("apply_request"), rows("change"));
    };
    CHECK(all() == "2 past, 4 held, 2 attempts, 2 requests, 9 audited");
    CHECK_FALSE(forget_history(*database, now() - Seconds(86400)));
    CHECK(all() == "2 past, 4 held, 2 attempts, 2 requests, 9 audited");
    CHECK_FALSE(forget_history(*database, now()));
    CHECK(all() == "1 past, 3 held, 1 attempts, 1 requests, 9 audited");
    CHECK(holder(*database, "100.64.1.3"_p, now()));
}

TEST_CASE("router: confirmations are forgotten when they are old and every router is past them") {
    ScratchDatabase database;
    const auto confirmed = [&](const char* prefix) {
        committed(*database, [&](Change& change) {
            add_pool(change, Prefix::parse(prefix), {}, Action::pass);
            confirm_openings(change, prefix, fmt::format("release {}\n", prefix));
        });
    };
    database->query("DROP TRIGGER revision_update", {});
    const auto three_hours_pass = [&] { database->query("UPDATE revision SET time = time - 3 * 3600", {}); };
    confirmed("100.64.0.0/16");
    confirmed("100.65.0.0/16");
    three_hours_pass();
    confirmed("100.66.0.0/16");
    const auto left = [&] {
        std::string all;
        confirmed_openings(*database, 0, [&](std::string_view lines) { all += lines; });
        return all;
    };
    const std::string first = "release 100.64.0.0/16\n", second = "release 100.65.0.0/16\n",
                      third = "release 100.66.0.0/16\n";
    forget_history(*database, now() - Seconds(86400));
    CHECK(left() == first + second + third);
    write_report(*database, report_of("edge1", 3));
    write_report(*database, report_of("behind", 0));
    forget_history(*database, now());
    CHECK(left() == first + second + third);
    write_report(*database, report_of("behind", 1));
    forget_history(*database, now());
    CHECK(left() == second + third);
    forget_router(*database, "behind");
    forget_history(*database, now());
    CHECK(left() == third);
    forget_router(*database, "edge1");
    three_hours_pass();
    forget_history(*database, now());
    CHECK(left().empty());
}

TEST_CASE("router: a long history is forgotten in steps") {
    ScratchDatabase database;
    committed(*database, [](Change& change) { assign(change, "c1", "100.64.1.1"_p, {}, false); });
    database->query(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)"
        " INSERT INTO past_assignment (first, length, customer, since, until, ended, source)"
        " SELECT first, length, customer, 1000, NULL, 2000, source FROM assignment, n",
        {});
    std::vector<int64_t> left;
    for (bool more = true; more;) {
        more = forget_history(*database, now());
        database->query("SELECT count(*) FROM past_assignment", {},
                        [&](const Row& row) { left.push_back(row.integer(0)); });
    }
    CHECK(left == std::vector<int64_t>{700, 200, 0});
}
