// How SQLite goes about what the product asks: whatever a person or the service waits for finds its rows by an index,
// however many customers there are. Each statement is explained as it is run, on the real schema; sizes don't matter,
// as without statistics SQLite chooses by the schema alone.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <catch2/catch.hpp>
#include <set>

#include "import_run.hpp"
#include "subscribers/audit.hpp"
#include "subscribers/passed_on.hpp"
#include "subscribers/policy.hpp"
#include "subscribers/revision.hpp"
#include "subscribers/router.hpp"
#include "subscribers/scratch.hpp"

using namespace smtpfence;

namespace {

/// A session whose statements are explained before they run.
class Explained final : public PassedOn {
public:
    using PassedOn::PassedOn;

    int64_t query(std::string_view sql, std::span<const Value> parameters,
                  const std::function<void(const Row&)>& each) override {
        if (known_.emplace(sql).second) explain(sql, parameters);
        return session_.query(sql, parameters, each);
    }
    using PassedOn::query;

    size_t statements() const { return known_.size(); }
    /// "SCAN name in statement" for each table that is read from end to end, but those that are always short; and
    /// "SORT in statement" where the first row waits for the last one.
    std::set<std::string> scans, sorts;

private:
    void explain(std::string_view sql, std::span<const Value> parameters) {
        // Pools are ten thousand at most; routers, relays, requests and confirmations fewer.
        std::set<std::string> in_passing{"pool", "relay", "router", "apply_request", "confirmation", "CONSTANT"};
        session_.query(fmt::format("EXPLAIN QUERY PLAN {}", sql), parameters, [&](const Row& row) {
            const std::string step(row.text(3));
            const std::string name =
                step.substr(step.find(' ') + 1).substr(0, step.find(' ', step.find(' ') + 1) - step.find(' ') - 1);
            if (step.rfind("CO-ROUTINE ", 0) == 0) in_passing.insert(name);
            if (step.rfind("SCAN ", 0) == 0 && in_passing.count(name) == 0)
                scans.insert(fmt::format("{} in {}", step, sql));
            if (step.find("TEMP B-TREE") != std::string::npos) sorts.insert(fmt::format("{} in {}", step, sql));
        });
    }

    std::set<std::string, std::less<>> known_;
};

const std::set<std::string> none;

Grant grant(const std::string& customer) { return {customer, "own server", {}, {}, Seconds(3600), {}}; }

}  // namespace

TEST_CASE("plans: a command about one customer or prefix reads no table from end to end") {
    ScratchDatabase scratch;
    Explained database(*scratch);
    committed(database, [](Change& change) {
        add_relay(change, "203.0.113.10"_p, {}, {});
        add_pool(change, "100.64.0.0/10"_p, {}, Action::drop);
        assign(change, "c1", "100.64.3.7"_p, change.time() + Seconds(60), false);
        assign(change, "c1", "2001:db8:0:ab00::/56"_p, {}, false);
        assign(change, "c2", "100.64.3.0/24"_p, {}, true);
        grant_exemption(change, grant("c1"));
        grant_exemption(change, grant("c2"));
        set_pool(change, "100.64.0.0/10"_p, Action::reject);
    });
    committed(database, [](Change& change) {
        renew_exemption(change, {"c1", "asked again", {}, {}, Seconds(7200), {}});
        revoke_exemption(change, "c2", "abuse");
        release(change, "100.64.3.0/24"_p);
        CHECK(read_delta(change, 100));
    });
    committed(database, [](Change& change) { revert(change, 2); });
    committed(database, [](Change& change) { remove_pool(change, "100.64.0.0/10"_p); });
    const Instant time = now();
    each_assignment(database, "c1", time, [](const Assignment&) {});
    each_assignment(database, "c1", time - Seconds(60), [](const Assignment&) {});
    for (const Instant at : {time, time - Seconds(1)}) {
        holder(database, "100.64.3.7"_p, at);
        held_within(database, "100.64.0.0/10"_p, at, 4);
        right_cause(database, "100.64.3.7"_p, at);
    }
    right_cause(database, "100.64.9.9"_p, time);
    object_cause(database, Object::pool, "100.64.0.0/10"_p);
    pool_of(database, "100.64.3.7"_p);
    past_pool_of(database, "100.64.3.7"_p);
    exemption(database, "c1");
    each_exemption(database, time, time + Seconds(86400), [](const Exemption&) {});
    attempts_of(database, "c1", time - Seconds(86400));
    nearest_customers(database, "c3");
    customer_exists(database, "c1");
    revision_time(database, 1);
    revision_mark(database, 1);
    CHECK(database.statements() > 45);
    CHECK(database.scans == none);
}

TEST_CASE("plans: what the service reads and writes while it follows reads no table from end to end") {
    ScratchDatabase scratch;
    Explained database(*scratch);
    committed(database, [](Change& change) {
        assign(change, "c1", "100.64.3.7"_p, {}, false);
        grant_exemption(change, grant("c1"));
        confirm_openings(change, "digest", "openings");
    });
    const Instant time = now();
    CHECK(read_delta(database, 0, time - Seconds(60), time, 100));
    right_of(database, "100.64.3.7"_p, time);
    next_end(database, time);
    confirmed_digests(database, 0);
    confirmed_openings(database, 0, [](std::string_view) {});
    write_withheld(database, "edge1", {"100.64.3.7"_p});
    withheld_of(database, "edge1", {"100.64.3.7"_p});
    AttemptReading reading{{{"100.64.3.7"_p, 3}}};
    write_attempts(database, "edge1", reading, time, 100);
    const Actor actor{"root", {}, "edge1"};
    answer_request(database, request_apply(database, "edge1", actor, {}), "{}");
    open_requests(database, "edge1");
    forget_history(database, time);
    forget_router(database, "edge1");
    CHECK(database.statements() > 25);
    CHECK(database.scans == none);
}

TEST_CASE("plans: an import reads no table from end to end") {
    ScratchDatabase scratch;
    Explained database(*scratch);
    for (const char* more : {"", R"(,"take":true)"}) {
        upsert().run(database, assign_line("c1", "100.64.3.7") + assign_line("c2", "100.64.3.8", more) +
                                   exempt_line("c1", R"(,"ticket":"T1")"));
    }
    upsert().run(database, R"({"op":"revoke","customer":"c1","reason":"abuse"})"
                           "\n" +
                               exempt_line("c1", R"(,"ticket":"T1")") + exempt_line("c1", R"(,"ticket":"T2")"));
    upsert().run(database, exempt_line("c1", R"(,"ticket":"T1")") + R"({"op":"release","prefix":"100.64.3.7"})");
    CHECK(database.statements() > 15);
    CHECK(database.scans == none);
}

TEST_CASE("plans: the change log is never read whole to find some of it") {
    ScratchDatabase scratch;
    Explained database(*scratch);
    const auto read = [&](const AuditFilter& filter) { each_audit_entry(database, filter, [](const AuditEntry&) {}); };
    read({.customer = "c1"});
    read({.customer = "c1", .until = now()});
    read({.prefix = "100.64.3.7"_p});
    read({.prefix = "100.64.3.7"_p, .until = now()});
    read({.since = now() - Seconds(3600)});
    read({.customer = "c1", .since = now() - Seconds(3600)});
    CHECK(database.scans == none);
    read({.operator_name = "alice"});
    read({.customer = "c1", .operator_name = "alice"});
    for (const std::string& scan : database.scans) CHECK_THAT(scan, Catch::StartsWith("SCAN revision in "));
    CHECK(database.scans.size() == 2);
    read({});
    CHECK(database.scans.size() == 3);
}

TEST_CASE("plans: a listing or an export of everything begins at once") {
    ScratchDatabase scratch;
    Explained database(*scratch);
    each_assignment(database, {}, now(), [](const Assignment&) {});
    each_exemption(database, now(), {}, [](const Exemption&) {});
    each_customer(database, now(), [](const CustomerLine&) {});
    each_audit_entry(database, {}, [](const AuditEntry&) {});
    CHECK(database.sorts == none);
    CHECK(database.scans.size() == 4);
}

TEST_CASE("plans: all rights are found by one walk over exemptions, within indexes of assignments") {
    ScratchDatabase scratch;
    Explained database(*scratch);
    read_policy(database, now());
    CHECK(database.sorts == none);
    REQUIRE(database.scans.size() == 1);
    CHECK_THAT(*database.scans.begin(), Catch::StartsWith("SCAN e in "));
}

TEST_CASE("plans: a page of rights is found by the customers' ids, from either end") {
    ScratchDatabase scratch;
    committed(*scratch, [](Change& change) {
        for (const char* customer : {"c1", "c2", "c3"}) {
            assign(change, customer, Prefix::parse("100.64.3." + std::string(customer + 1)), {}, false);
            grant_exemption(change, grant(customer));
        }
    });
    Explained database(*scratch);
    const Instant time = now();
    std::deque<Right> rights;
    for (const bool mostly_exempt : {false, true}) {
        for (const From from : {From::first, From::last}) {
            for (const CustomersLeft& all :
                 {CustomersLeft{"", {}, mostly_exempt}, CustomersLeft{"", "c4", mostly_exempt}}) {
                CustomersLeft left = all;
                CHECK(read_rights(database, time, left, from, 2, rights));
                CHECK_FALSE(read_rights(database, time, left, from, 2, rights));
                CHECK_FALSE(read_rights(database, time, left = all, from, 10, rights));
            }
        }
        // A page's end with and without a bound, and what it has, for both directions; who is exempt with and without a
        // bound, for both directions, and a walk.
        CHECK(database.statements() == (mostly_exempt ? 9 + 5 : 9));
    }
    CHECK(rights.size() == 48);
    CHECK(database.sorts == none);
    CHECK(database.scans == none);
}
