#include "subscribers/audit.hpp"

#include <fmt/format.h>

#include <catch2/catch.hpp>

#include "scratch.hpp"
#include "subscribers/customer.hpp"

using namespace smtpfence;

namespace {

/// "revision object about" of each entry that the filter lets through.
std::vector<std::string> entries(Database& database, const AuditFilter& filter) {
    std::vector<std::string> result;
    each_audit_entry(database, filter, [&](const AuditEntry& entry) {
        result.push_back(fmt::format("{} {} {}", entry.revision, word(entry.object),
                                     entry.prefix ? entry.prefix->short_text() : entry.customer.value_or("")));
    });
    return result;
}
using Entries = std::vector<std::string>;

}  // namespace

TEST_CASE("each_audit_entry: everything about a change, oldest first") {
    ScratchDatabase database;
    {
        Change change(*database, {"root", {}, "edge1"}, "relay add", "new cluster", "crm");
        add_relay(change, "203.0.113.10"_p, "mx", {});
        change.commit();
    }
    committed(
        *database, [](Change& change) { remove_relay(change, "203.0.113.10"_p); }, "relay remove");
    std::vector<AuditEntry> found;
    each_audit_entry(*database, {}, [&](const AuditEntry& entry) { found.push_back(entry); });
    REQUIRE(found.size() == 2);
    CHECK(found[0].revision == 1);
    CHECK(found[0].login == "root");
    CHECK_FALSE(found[0].operator_name);
    CHECK(found[0].host == "edge1");
    CHECK(found[0].command == "relay add");
    CHECK(found[0].reason == "new cluster");
    CHECK(found[0].object == Object::relay);
    CHECK_FALSE(found[0].customer);
    CHECK(found[0].prefix == "203.0.113.10"_p);
    CHECK(found[0].before.is_null());
    CHECK(found[0].after == nlohmann::json::parse(R"({"prefix":"203.0.113.10/32","note":"mx","source":"crm"})"));
    CHECK(now() - found[0].time < Seconds{60});
    CHECK(found[1].operator_name == "alice");
    CHECK(found[1].before == found[0].after);
    CHECK(found[1].after.is_null());
}

TEST_CASE("each_audit_entry: filters") {
    ScratchDatabase database;
    committed(*database, [](Change& change) { add_pool(change, "100.64.0.0/10"_p, {}, Action::drop); });
    committed(*database, [](Change& change) { assign(change, "c1", "100.64.3.7"_p, {}, false); });
    committed(*database, [](Change& change) { assign(change, "c2", "100.64.4.0/24"_p, {}, false); });
    {
        Change change(*database, {"bob", {}, "edge2"}, "assign");
        assign(change, "c1", "2001:db8:7::/56"_p, {}, false);
        change.commit();
    }
    CHECK(entries(*database, {}) == Entries{"1 pool 100.64.0.0/10", "2 customer c1", "2 assignment 100.64.3.7",
                                            "3 customer c2", "3 assignment 100.64.4.0/24",
                                            "4 assignment 2001:db8:7::/56"});
    CHECK(entries(*database, {.customer = "c1"}) ==
          Entries{"2 customer c1", "2 assignment 100.64.3.7", "4 assignment 2001:db8:7::/56"});
    CHECK(entries(*database, {.prefix = "100.64.3.7"_p}) == Entries{"1 pool 100.64.0.0/10", "2 assignment 100.64.3.7"});
    CHECK(entries(*database, {.prefix = "100.64.4.9"_p}) ==
          Entries{"1 pool 100.64.0.0/10", "3 assignment 100.64.4.0/24"});
    CHECK(entries(*database, {.prefix = "100.64.0.0/16"_p}) ==
          Entries{"1 pool 100.64.0.0/10", "2 assignment 100.64.3.7", "3 assignment 100.64.4.0/24"});
    CHECK(entries(*database, {.prefix = "2001:db8:7::1"_p}) == Entries{"4 assignment 2001:db8:7::/56"});
    CHECK(entries(*database, {.prefix = "::/0"_p}) == Entries{"4 assignment 2001:db8:7::/56"});
    CHECK(entries(*database, {.operator_name = "bob"}) == Entries{"4 assignment 2001:db8:7::/56"});
    CHECK(entries(*database, {.operator_name = "alice"}).size() == 5);
    CHECK(entries(*database, {.operator_name = "root"}).size() == 5);
    CHECK(entries(*database, {.since = now() + Seconds{5}}).empty());
    CHECK(entries(*database, {.since = now() - Seconds{60}}).size() == 6);
    CHECK(entries(*database, {.until = now() - Seconds{60}}).empty());
    CHECK(entries(*database, {.customer = "c1", .prefix = "100.64.0.0/10"_p}) == Entries{"2 assignment 100.64.3.7"});
}
