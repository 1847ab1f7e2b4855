#include "subscribers/audit.hpp"

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <thread>

#include "import_run.hpp"

using namespace smtpfence;

namespace {

using Catch::Contains;
using Catch::StartsWith;

/// What holds, as text, without the times at which it began.
std::string state(Database& database) {
    std::string text;
    for (const Relay& r : relays(database)) {
        text += fmt::format("relay {} {} {}\n", r.prefix.short_text(), r.note.value_or("-"), r.source);
    }
    for (const Pool& p : pools(database)) {
        text += fmt::format("pool {} {} {} {}\n", p.prefix.text(), p.name.value_or("-"), word(p.action), p.source);
    }
    each_assignment(database, {}, now(), [&](const Assignment& a) {
        text += fmt::format("{} holds {} until {} {}\n", a.customer, a.prefix.short_text(),
                            a.until ? format_instant(*a.until) : "-", a.source);
    });
    each_exemption(database, now(), {}, [&](const Exemption& e) {
        text += fmt::format("{} exempt until {} {} {} {} {}\n", e.customer, format_instant(e.until), e.reason,
                            e.ticket.value_or("-"), e.granted_by, e.source);
    });
    return text;
}

Revision reverted(Database& database, Revision revision, int64_t expected) {
    return committed(
        database, [&](Change& change) { CHECK(revert(change, revision) == expected); }, "revert");
}

std::string revert_refused(Database& database, Revision revision) {
    const Revision before = current_revision(database);
    const std::string state_before = state(database);
    const std::string result = refusal([&] { committed(database, [&](Change& c) { revert(c, revision); }); });
    CHECK(current_revision(database) == before);
    CHECK(state(database) == state_before);
    return result;
}

/// Reverts the last revision and then the reverting one: the first gives `before` back, the second what there was.
void check_both_ways(Database& database, const std::string& before, int64_t objects = 1) {
    const std::string after = state(database);
    REQUIRE(after != before);
    const Revision first = reverted(database, current_revision(database), objects);
    CHECK(state(database) == before);
    reverted(database, first, objects);
    CHECK(state(database) == after);
}

Grant grant_until(const std::string& customer, const std::string& reason = "mail server",
                  const std::string& time = "2100-01-01T00:00:00Z") {
    return {customer, reason, "T-1", {}, {}, parse_instant(time)};
}

void import_file(Database& database, const std::string& text, const std::string& source, bool replace) {
    std::istringstream in(text);
    ImportOptions options;
    options.replace = replace;
    std::optional<Change> change;
    import_records([&]() -> Change& { return change.emplace(database, alice, "import", std::nullopt, source); },
                   database, in, source, options);
    if (change) change->commit();
}

}  // namespace

TEST_CASE("revert: relays and pools, added, changed and removed") {
    ScratchDatabase database;
    committed(*database, [](Change& change) { add_relay(change, "203.0.113.1"_p, "first", {}); });
    std::string before = state(*database);
    committed(*database, [](Change& change) { add_pool(change, "100.64.0.0/10"_p, "north", Action::drop); });
    check_both_ways(*database, before);
    before = state(*database);
    committed(
        *database, [](Change& change) { set_pool(change, "100.64.0.0/10"_p, Action::observe); }, "set", "desk");
    check_both_ways(*database, before);
    before = state(*database);
    committed(*database, [](Change& change) { remove_pool(change, "100.64.0.0/10"_p); });
    check_both_ways(*database, before);
    before = state(*database);
    committed(*database, [](Change& change) { add_relay(change, "203.0.113.2"_p, {}, {}); });
    check_both_ways(*database, before);
    before = state(*database);
    committed(*database, [](Change& change) {  // the relays are exchanged in one revision
        add_relay(change, "203.0.113.3"_p, {}, {});
        remove_relay(change, "203.0.113.1"_p);
        remove_relay(change, "203.0.113.2"_p);
    });
    check_both_ways(*database, before, 3);
}

TEST_CASE("revert: never takes the last relay of a fence") {
    ScratchDatabase database;
    const Revision added = committed(*database, [](Change& c) { add_relay(c, "203.0.113.1"_p, {}, {}); });
    committed(*database, [](Change& c) { add_pool(c, "100.64.0.0/10"_p, {}, Action::drop); });
    CHECK_THAT(revert_refused(*database, added), StartsWith("conflict: relay 203.0.113.1/32 is the last one"));
}

TEST_CASE("revert: assignments, with their end and source, the customer stays known") {
    ScratchDatabase database;
    std::string before = state(*database);
    committed(
        *database, [](Change& change) { assign(change, "c1", "100.64.3.7"_p, {}, false); }, "assign", "crm");
    check_both_ways(*database, before);
    CHECK(customer_exists(*database, "c1"));
    before = state(*database);
    committed(*database, [](Change& change) {
        assign(change, "c1", "100.64.3.7"_p, parse_instant("2100-01-01T00:00:00Z"), false);
    });
    check_both_ways(*database, before);
    before = state(*database);
    committed(*database, [](Change& change) { release(change, "100.64.3.7"_p); });
    check_both_ways(*database, before);
    reverted(*database, current_revision(*database), 1);
    REQUIRE(state(*database) == before);
    committed(*database, [](Change& change) { assign(change, "c2", "100.64.3.7"_p, {}, true); });
    check_both_ways(*database, before);
    before = state(*database);
    committed(*database, [](Change& change) { assign(change, "c3", "100.64.3.0/24"_p, {}, true); });
    check_both_ways(*database, before, 2);
}

TEST_CASE("revert: an import that let addresses change hands") {
    ScratchDatabase database;
    import_file(*database,
                assign_line("c1", "100.64.3.1") + assign_line("c2", "100.64.3.2") + assign_line("c3", "100.64.4.0/24"),
                "crm", true);
    const std::string before = state(*database);
    import_file(*database,
                assign_line("c2", "100.64.3.1") + assign_line("c1", "100.64.3.2") + assign_line("c4", "100.64.4.0/25") +
                    assign_line("c5", "100.64.4.128/25"),
                "crm", true);
    check_both_ways(*database, before, 5);
}

TEST_CASE("revert: exemptions, granted, renewed, revoked") {
    ScratchDatabase database;
    std::string before = state(*database);
    committed(
        *database, [](Change& change) { grant_exemption(change, grant_until("c1")); }, "exempt grant", "crm");
    check_both_ways(*database, before);
    before = state(*database);
    committed(*database,
              [](Change& change) { renew_exemption(change, grant_until("c1", "longer", "2101-01-01T00:00:00Z")); });
    check_both_ways(*database, before);
    before = state(*database);
    committed(*database, [](Change& change) { revoke_exemption(change, "c1", "abuse"); });
    check_both_ways(*database, before);
}

TEST_CASE("revert: an exemption that it granted is revoked, so that a nightly file doesn't bring it back") {
    ScratchDatabase database;
    const std::string nightly = R"({"op":"exempt","customer":"c1","reason":"r"})";
    import_file(*database, nightly, "crm", false);
    reverted(*database, 1, 1);
    CHECK(exemption(*database, "c1")->revoke_reason == "revert of revision 1");
    import_file(*database, nightly, "crm", false);
    CHECK_FALSE(exemption(*database, "c1")->active(now()));
}

TEST_CASE("revert: what is already as it was counts as nothing and takes no revision") {
    ScratchDatabase database;
    committed(*database, [](Change& change) {
        assign(change, "c1", "100.64.3.7"_p, {}, false);
        grant_exemption(change, grant_until("c1"));
        add_pool(change, "100.64.0.0/10"_p, {}, Action::pass);
    });
    committed(*database, [](Change& change) {
        release(change, "100.64.3.7"_p);
        revoke_exemption(change, "c1", "r");
        remove_pool(change, "100.64.0.0/10"_p);
    });
    CHECK(reverted(*database, 1, 0) == 2);
}

TEST_CASE("revert: an assignment that ran out by itself is no conflict") {
    ScratchDatabase database;
    committed(*database, [](Change& change) { assign(change, "c1", "100.64.3.7"_p, {}, false); });
    committed(*database, [](Change& change) { assign(change, "c2", "100.64.3.7"_p, now() + Seconds{1}, true); });
    std::this_thread::sleep_for(Seconds{2});  // moving the stored times instead would be a change outside the log
    reverted(*database, 2, 1);
    CHECK(state(*database) == "c1 holds 100.64.3.7 until - manual\n");
}

TEST_CASE("revert: names every object that changed since, and the revision that changed it last") {
    ScratchDatabase database;
    committed(*database, [](Change& change) {
        add_pool(change, "100.64.0.0/10"_p, {}, Action::drop);
        add_relay(change, "203.0.113.1"_p, {}, {});
        assign(change, "c1", "100.64.3.7"_p, {}, false);
        grant_exemption(change, grant_until("c1"));
    });
    committed(*database, [](Change& change) { set_pool(change, "100.64.0.0/10"_p, Action::observe); });
    committed(*database, [](Change& change) { assign(change, "c2", "100.64.3.7"_p, {}, true); });
    committed(*database, [](Change& change) { renew_exemption(change, grant_until("c1", "longer")); });
    const std::string refused = revert_refused(*database, 1);
    CHECK_THAT(refused, StartsWith("conflict: revision 1 can't be reverted: "));
    CHECK_THAT(refused, Contains("pool 100.64.0.0/10 was changed in revision 2"));
    CHECK_THAT(refused, Contains("assignment 100.64.3.7/32 was changed in revision 3"));
    CHECK_THAT(refused, Contains("the exemption of customer 'c1' was changed in revision 4"));
    CHECK_THAT(refused, !Contains("relay"));
    database->query("UPDATE relay SET note = 'by hand'", {});
    CHECK_THAT(revert_refused(*database, 1), Contains("relay 203.0.113.1/32 was changed outside the change log"));
}

TEST_CASE("revert: an exemption that was revoked again later doesn't come back") {
    ScratchDatabase database;
    committed(*database, [](Change& change) { grant_exemption(change, grant_until("c1")); });
    committed(*database, [](Change& change) { revoke_exemption(change, "c1", "first"); });
    committed(*database, [](Change& change) { grant_exemption(change, grant_until("c1", "again")); });
    committed(*database, [](Change& change) { revoke_exemption(change, "c1", "second"); });
    CHECK_THAT(revert_refused(*database, 2), Contains("the exemption of customer 'c1' was changed in revision 4"));
}

TEST_CASE("revert: a prefix that somebody else holds now doesn't go back") {
    ScratchDatabase database;
    committed(*database, [](Change& change) {
        assign(change, "c1", "100.64.3.7"_p, {}, false);
        assign(change, "c1", "100.64.4.0/24"_p, {}, false);
    });
    committed(*database, [](Change& change) {
        release(change, "100.64.3.7"_p);
        release(change, "100.64.4.0/24"_p);
    });
    committed(*database, [](Change& change) { assign(change, "c2", "100.64.3.0/24"_p, {}, false); });
    committed(*database, [](Change& change) { assign(change, "c3", "100.64.4.9"_p, {}, false); });
    const std::string refused = revert_refused(*database, 2);
    CHECK_THAT(refused, StartsWith("conflict: revision 2 can't be reverted: "));
    CHECK_THAT(refused, Contains("assignment 100.64.3.7/32 can't go back to customer 'c1' because customer 'c2' holds "
                                 "100.64.3.0/24"));
    CHECK_THAT(refused, Contains("because customer 'c3' holds 100.64.4.9/32"));
}

TEST_CASE("revert: an unknown revision is not found") {
    ScratchDatabase database;
    CHECK_THAT(revert_refused(*database, 1), StartsWith("not found: no revision 1; the last one is 0"));
    CHECK_THAT(revert_refused(*database, 0), StartsWith("not found: no revision 0"));
}
