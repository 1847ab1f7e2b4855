#include <fmt/format.h>

#include "scratch.hpp"
#include "subscribers/customer.hpp"

using namespace smtpfence;

/// Grants as one change; "granted new", "granted same" or the refusal.
static std::string granted(Database& database, const Grant& grant) {
    bool fresh = false;
    const std::string refused =
        refusal([&] { committed(database, [&](Change& change) { fresh = grant_exemption(change, grant); }); });
    return refused != "granted" ? refused : fresh ? "new" : "same";
}
static std::string renewed(Database& database, const Grant& grant) {
    return refusal([&] { committed(database, [&](Change& change) { renew_exemption(change, grant); }); });
}
static std::string revoked(Database& database, const std::string& customer, const std::string& reason = "abuse") {
    bool done = false;
    const std::string refused = refusal(
        [&] { committed(database, [&](Change& change) { done = revoke_exemption(change, customer, reason); }); });
    return refused != "granted" ? refused : done ? "revoked" : "nothing";
}
static Grant grant_for(const std::string& customer, Seconds duration = Seconds(86400)) {
    return {customer, "own server", "T1", {}, duration, {}};
}

TEST_CASE("exemption: an exemption is granted once") {
    ScratchDatabase database;
    CHECK(granted(*database, grant_for("c1")) == "new");
    CHECK(log_of(*database, 1) == std::vector<std::string>{"customer c1 added", "exemption c1 added"});
    let_pass(*database, Seconds(100));
    CHECK(granted(*database, grant_for("c1")) == "same");  // the same duration
    CHECK(current_revision(*database) == 1);
    const Exemption held = exemption(*database, "c1").value();
    CHECK(held.granted_by == "alice");
    CHECK(held.until - held.since == Seconds(86400));
    CHECK(held.active(now()));
    Grant by_time = grant_for("c1");
    by_time.duration.reset();
    by_time.until = held.until;
    CHECK(granted(*database, by_time) == "same");
    for (int change = 0; change < 4; ++change) {
        Grant other = grant_for("c1");
        if (change == 0) other.reason = "another";
        if (change == 1) other.ticket = "T2";
        if (change == 2) other.asked_by = "Zoë";
        if (change == 3) other.duration = Seconds(60);
        CHECK_THAT(granted(*database, other), Catch::StartsWith("conflict: ") && Catch::Contains("exempt renew"));
    }
    CHECK(current_revision(*database) == 1);
}

TEST_CASE("exemption: exemptions that are refused") {
    ScratchDatabase database;
    Grant grant = grant_for("c1");
    grant.until = now() + Seconds(60);
    CHECK_THAT(granted(*database, grant), Catch::StartsWith("usage: "));
    grant.duration.reset();
    grant.until = now() - Seconds(1);
    CHECK_THAT(granted(*database, grant), Catch::StartsWith("invalid: ") && Catch::Contains("not in the future"));
    grant.until.reset();
    CHECK_THAT(granted(*database, grant), Catch::StartsWith("usage: "));
    grant = grant_for("c1");
    grant.reason = "";
    CHECK_THAT(granted(*database, grant), Catch::StartsWith("invalid: reason "));
    grant = grant_for("c1");
    grant.ticket = "a\nb";
    CHECK_THAT(granted(*database, grant), Catch::StartsWith("invalid: ticket "));
    CHECK_THAT(granted(*database, grant_for("\xff")), Catch::StartsWith("invalid: customer "));
    CHECK_FALSE(customer_exists(*database, "c1"));
    CHECK(current_revision(*database) == 0);
}

TEST_CASE("exemption: renewing moves the end and keeps what is not stated") {
    ScratchDatabase database;
    CHECK_THAT(renewed(*database, grant_for("c1")), Catch::StartsWith("not found: unknown customer 'c1'"));
    granted(*database, grant_for("c1"));
    let_pass(*database, Seconds(1000));
    const Exemption before = exemption(*database, "c1").value();
    Grant grant = grant_for("c1", Seconds(2 * 86400));
    grant.reason = "still runs it";
    grant.ticket.reset();
    CHECK(renewed(*database, grant) == "granted");
    CHECK(log_of(*database, 2) == std::vector<std::string>{"exemption c1 changed"});
    const Exemption after = exemption(*database, "c1").value();
    CHECK(after.since == before.since);
    CHECK(after.counted_from >= before.counted_from + Seconds(1000));
    CHECK(after.until - after.counted_from == Seconds(2 * 86400));
    CHECK(after.reason == "still runs it");
    CHECK(after.ticket == "T1");
    grant.ticket = "T1";
    CHECK(granted(*database, grant) == "same");
    let_pass(*database, Seconds(3 * 86400));
    CHECK_THAT(renewed(*database, grant), Catch::StartsWith("not found: ") && Catch::Contains("exempt grant"));
}

TEST_CASE("exemption: revoking ends an exemption and keeps its row") {
    ScratchDatabase database;
    CHECK_THAT(revoked(*database, "c1"), Catch::StartsWith("not found: "));
    granted(*database, grant_for("c10"));
    CHECK_THAT(revoked(*database, "c1"), Catch::Contains("did you mean 'c10'?"));
    CHECK_THAT(revoked(*database, "c10", ""), Catch::StartsWith("invalid: reason "));
    CHECK(revoked(*database, "c10") == "revoked");
    CHECK(log_of(*database, 2) == std::vector<std::string>{"exemption c10 changed"});
    CHECK(revoked(*database, "c10") == "nothing");
    CHECK(current_revision(*database) == 2);
    const Exemption held = exemption(*database, "c10").value();
    CHECK(held.revoked);
    CHECK(held.revoke_reason == "abuse");
    CHECK_FALSE(held.active(now()));
    CHECK_THAT(renewed(*database, grant_for("c10")), Catch::StartsWith("not found: "));
    CHECK(granted(*database, grant_for("c10")) == "new");
    CHECK_FALSE(exemption(*database, "c10")->revoked);
    CHECK(log_of(*database, 3) == std::vector<std::string>{"exemption c10 changed"});
    let_pass(*database, Seconds(2 * 86400));
    CHECK(revoked(*database, "c10") == "revoked");  // ran out, but perhaps by a wrong clock
    CHECK(revoked(*database, "c10") == "nothing");
}

TEST_CASE("exemption: lists of exemptions and customers") {
    ScratchDatabase database;
    granted(*database, grant_for("c2", Seconds(1000)));
    granted(*database, grant_for("c1", Seconds(9000)));
    granted(*database, grant_for("c3"));
    revoked(*database, "c3");
    committed(*database, [](Change& change) {
        assign(change, "c1", "100.64.3.1"_p, {}, false);
        assign(change, "c1", "100.64.3.2"_p, now() + Seconds(1000), false);
        assign(change, "c0", "100.64.3.3"_p, {}, false);
    });
    const auto listed = [&](Instant at, std::optional<Instant> before = {}) {
        std::string result;
        each_exemption(*database, at, before, [&](const Exemption& held) { result += held.customer + " "; });
        return result;
    };
    CHECK(listed(now()) == "c1 c2 ");
    CHECK(listed(now(), now() + Seconds(5000)) == "c2 ");
    CHECK(listed(now() + Seconds(2000)) == "c1 ");
    const auto customers = [&](Instant at) {
        std::string result;
        each_customer(*database, at, [&](const CustomerLine& line) {
            CHECK((!line.exemption || line.exemption == exemption(*database, line.customer)));
            result += fmt::format("{} {}{}, ", line.customer, line.assignments, line.exemption ? " exempt" : "");
        });
        return result;
    };
    CHECK(customers(now()) == "c0 1, c1 2 exempt, c2 0 exempt, c3 0, ");
    CHECK(customers(now() + Seconds(2000)) == "c0 1, c1 1 exempt, c2 0, c3 0, ");
}
