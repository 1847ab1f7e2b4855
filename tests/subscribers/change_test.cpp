#include "subscribers/change.hpp"

#include "scratch.hpp"
#include "subscribers/facts.hpp"

using namespace smtpfence;

static int64_t count(Database& database, const std::string& table) {
    int64_t rows = 0;
    database.query("SELECT count(*) FROM " + table, {}, [&](const Row& row) { rows = row.integer(0); });
    return rows;
}

TEST_CASE("change: takes the next revision and says who, when, from where and why") {
    ScratchDatabase database;
    const Instant before = now();
    Change change(*database, alice, "relay add", "new cluster", "crm");
    CHECK(change.revision() == 0);
    CHECK(change.empty());
    add_relay(change, "203.0.113.10"_p, "mx-out-1", {});
    CHECK(change.revision() == 1);
    add_relay(change, "203.0.113.11"_p, {}, {});
    CHECK(change.commit() == 1);
    CHECK(current_revision(*database) == 1);
    int rows = 0;
    database->query("SELECT number, time, login, operator, host, command, reason, source FROM revision", {},
                    [&](const Row& row) {
                        ++rows;
                        CHECK(row.integer(0) == 1);
                        CHECK(row.integer(1) >= to_number(before));
                        CHECK(row.text(2) == "root");
                        CHECK(row.text(3) == "alice");
                        CHECK(row.text(4) == "edge1");
                        CHECK(row.text(5) == "relay add");
                        CHECK(row.text(6) == "new cluster");
                        CHECK(row.text(7) == "crm");
                    });
    CHECK(rows == 1);
    std::string log;
    database->query("SELECT item, object, first, length, before, after FROM change ORDER BY item", {},
                    [&](const Row& row) {
                        log += std::to_string(row.integer(0)) + " " + std::string(row.text(1)) + " " +
                               Prefix::from_key(row.blob(2), row.integer(3)).text() + " " +
                               (row.null(4) ? "null" : "?") + " " + std::string(row.text(5)) + "\n";
                    });
    CHECK(log ==
          "1 relay 203.0.113.10/32 null {\"note\":\"mx-out-1\",\"prefix\":\"203.0.113.10/32\",\"source\":\"crm\"}\n"
          "2 relay 203.0.113.11/32 null {\"prefix\":\"203.0.113.11/32\",\"source\":\"crm\"}\n");
}

TEST_CASE("change: without commit nothing happened") {
    ScratchDatabase database;
    {
        Change change(*database, alice, "relay add");
        add_relay(change, "203.0.113.10"_p, {}, {});
    }
    CHECK(current_revision(*database) == 0);
    CHECK(count(*database, "relay") == 0);
    CHECK(count(*database, "revision") == 0);
    CHECK(committed(*database, [](Change& change) { add_relay(change, "203.0.113.11"_p, {}, {}); }) == 1);
}

TEST_CASE("change: recording nothing takes no revision") {
    ScratchDatabase database;
    committed(*database, [](Change& change) { add_relay(change, "203.0.113.10"_p, {}, {}); });
    CHECK(committed(*database, [](Change& change) { add_relay(change, "203.0.113.10"_p, {}, {}); }) == 1);
    CHECK(count(*database, "revision") == 1);
}

TEST_CASE("change: facts lead back to what they tell of") {
    const Instant t = parse_instant("2027-01-01T00:00:00Z");
    const Relay relay{"203.0.113.10"_p, "mx", "crm"}, plain_relay{"203.0.113.10"_p, {}, "crm"};
    CHECK(relay_from(facts(relay)) == relay);
    CHECK(relay_from(facts(plain_relay)) == plain_relay);
    const Pool pool{"100.64.0.0/10"_p, "north", Action::observe, "manual"};
    CHECK(pool_from(facts(pool)) == pool);
    const Assignment assignment{"2001:db8::/56"_p, "Zoë", {}, t, "crm", {}};
    CHECK(assignment_from(facts(assignment)) == assignment);
    Exemption exemption{
        "c1",    "own server", "T1", "Zoë", "alice", t, t + Seconds(60), t + Seconds(30), t + Seconds(40),
        "abuse", "manual"};
    CHECK(exemption_from(facts(exemption)) == exemption);
    exemption.ticket = exemption.asked_by = exemption.revoke_reason = std::nullopt;
    exemption.revoked = std::nullopt;
    CHECK(exemption_from(facts(exemption)) == exemption);
    CHECK_THAT(failure([] { assignment_from({{"customer", "c1"}}); }), Catch::StartsWith("corrupt: "));
    CHECK_THAT(failure([] { assignment_from({{"customer", 1}}); }), Catch::StartsWith("corrupt: "));
    CHECK_THAT(failure([] {
                   pool_from({{"prefix", "x"}, {"action", "drop"}, {"source", "m"}});
               }),
               Catch::StartsWith("corrupt: "));
    for (Object object : {Object::relay, Object::pool, Object::customer, Object::assignment, Object::exemption}) {
        CHECK(parse_object(word(object)) == object);
    }
    CHECK_THAT(failure([] { parse_object("router"); }), Catch::StartsWith("corrupt: "));
}
