#include "subscribers/policy.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "scratch.hpp"

using namespace smtpfence;

static void grant(Change& change, const std::string& customer, Seconds duration) {
    grant_exemption(change, {customer, "own server", "T1", {}, duration, {}});
}

TEST_CASE("policy: a right is a prefix that an exempt customer holds, until the earlier end") {
    ScratchDatabase database;
    committed(*database, [](Change& change) {
        add_relay(change, "203.0.113.10"_p, {}, {});
        add_pool(change, "100.64.0.0/10"_p, {}, Action::drop);
        add_pool(change, "100.64.8.0/24"_p, {}, Action::pass);
        assign(change, "expert", "2001:db8:0:ab00::/56"_p, {}, false);
        assign(change, "expert", "100.64.3.7"_p, change.time() + Seconds(60), false);
        assign(change, "consumer", "100.64.3.8"_p, {}, false);
        assign(change, "former", "100.64.3.9"_p, {}, false);
        grant(change, "expert", Seconds(3600));
        grant(change, "former", Seconds(3600));
        grant(change, "dormant", Seconds(3600));
    });
    committed(*database, [](Change& change) { revoke_exemption(change, "former", "abuse"); });
    const Instant until = exemption(*database, "expert")->until;
    const Policy policy = read_policy(*database, now());
    CHECK(policy.revision == 2);
    CHECK(policy.relays == std::vector<Prefix>{"203.0.113.10"_p});
    CHECK(policy.pools ==
          std::vector<std::pair<Prefix, Action>>{{"100.64.0.0/10"_p, Action::drop}, {"100.64.8.0/24"_p, Action::pass}});
    CHECK(policy.rights ==
          std::deque<Right>{{"100.64.3.7"_p, until - Seconds(3540)}, {"2001:db8:0:ab00::/56"_p, until}});
    CHECK(read_policy(*database, until - Seconds(3540)).rights.size() == 1);
    CHECK(read_policy(*database, until - Seconds(1)).rights.size() == 1);
    CHECK(read_policy(*database, until).rights.empty());
    CHECK(next_end(*database, now()) == until - Seconds(3540));
    CHECK(next_end(*database, until - Seconds(3540)) == until);
    CHECK_FALSE(next_end(*database, until));
}

TEST_CASE("policy: what was revoked or released while it seemed over is no right when the clock is set back") {
    ScratchDatabase database;
    committed(*database, [](Change& change) {
        for (const char* customer : {"c1", "c2", "c3"}) grant(change, customer, Seconds(600));
        assign(change, "c1", "100.64.3.1"_p, change.time() + Seconds(600), false);
        assign(change, "c2", "100.64.3.2"_p, change.time() + Seconds(600), false);
        assign(change, "c3", "100.64.3.3"_p, change.time() + Seconds(600), false);
    });
    let_pass(*database, Seconds(3600));
    CHECK(read_policy(*database, now()).rights.empty());
    CHECK(read_policy(*database, now() - Seconds(3300)).rights.size() == 3);
    committed(*database, [](Change& change) {
        revoke_exemption(change, "c1", "abuse");
        release(change, "100.64.3.2"_p);
    });
    const auto rights = read_policy(*database, now() - Seconds(3300)).rights;
    REQUIRE(rights.size() == 1);
    CHECK(rights.front().prefix == "100.64.3.3"_p);
}

TEST_CASE("policy: readers who begin at either end meet, and have read everything") {
    const int others = GENERATE(0, 1, 7);  // customers without exemption between two
    const bool mostly_exempt = GENERATE(true, false);
    ScratchDatabase database;
    committed(*database, [&](Change& change) {
        for (int i = 0; i < 20; ++i) {
            const std::string customer = fmt::format("c{}", i);
            for (int other = 0; other < others; ++other)
                assign(change, fmt::format("{}o{}", customer, other),
                       Prefix::parse(fmt::format("10.1.{}.{}", i, other)), {}, false);
            for (int held = 0; held < i % 4; ++held)  // some hold nothing
                assign(change, customer, Prefix::parse(fmt::format("10.0.{}.{}", i, held)), {}, false);
            if (i % 4 == 0) assign(change, customer, Prefix::parse(fmt::format("10.0.{}.0", i)), {}, false);
            if (i % 4 == 0) release(change, Prefix::parse(fmt::format("10.0.{}.0", i)));
            if (i % 5 != 0) grant(change, customer, Seconds(3600));
            if (i == 17) revoke_exemption(change, customer, "test");
        }
    });
    const Instant time = now();
    const std::deque<Right> all = read_rights(*database, time);
    REQUIRE(all.size() == 23);
    for (const int64_t page : {1, 3, 16, 100}) {
        for (const int share :
             {0, 1, 2, 3, 100}) {  // pages from the first customer on before one from the last one back
            CustomersLeft left{"", {}, mostly_exempt};
            std::deque<Right> rights;
            int turn = 0;
            while (read_rights(*database, time, left, turn < share ? From::first : From::last, page, rights))
                turn = (turn + 1) % (share + 1);
            std::sort(rights.begin(), rights.end(), by_prefix);
            CHECK(rights == all);
            if (others == 0) CHECK(left.mostly_exempt == mostly_exempt);
            if (others == 7 && page >= 16) CHECK_FALSE(left.mostly_exempt);
        }
    }
}

TEST_CASE("policy: the next end is no later than the first right's, however many others end before") {
    ScratchDatabase database;
    committed(*database, [](Change& change) {
        const Instant t = change.time();
        for (int i = 0; i < 1500; ++i) {
            assign(change, "consumer", Prefix::parse(fmt::format("10.0.{}.{}", i / 250, i % 250)), t + Seconds(100 + i),
                   false);
        }
        assign(change, "expert", "100.64.3.7"_p, t + Seconds(1550), false);
        grant(change, "expert", Seconds(36000));
    });
    const Instant end = holder(*database, "100.64.3.7"_p, now())->until.value();
    int steps = 0;
    for (Instant t = now(); t < end; ++steps) {
        const auto next = next_end(*database, t);
        REQUIRE(next);
        REQUIRE(*next > t);
        REQUIRE(*next <= end);
        t = *next;
    }
    CHECK(steps == 2);
}

TEST_CASE("policy: a difference names what the log names") {
    ScratchDatabase database;
    committed(*database, [](Change& change) {
        assign(change, "c1", "100.64.3.7"_p, {}, false);
        assign(change, "c1", "2001:db8:0:ab00::/56"_p, {}, false);
        assign(change, "c2", "100.64.3.8"_p, {}, false);
    });
    const Instant then = now();
    const auto delta = [&](Revision since) { return read_delta(*database, since, then, now(), 100); };
    CHECK(delta(1)->rights.empty());
    CHECK_FALSE(delta(1)->relays);
    CHECK_FALSE(delta(1)->pools);
    committed(*database, [](Change& change) { grant(change, "c1", Seconds(3600)); });
    const Instant until = exemption(*database, "c1")->until;
    using Rights = std::vector<std::pair<Prefix, std::optional<Instant>>>;
    CHECK(delta(1)->revision == 2);
    CHECK(delta(1)->rights == Rights{{"100.64.3.7"_p, until}, {"2001:db8:0:ab00::/56"_p, until}});
    committed(*database, [](Change& change) { assign(change, "c2", "100.64.3.7"_p, {}, true); });
    CHECK(delta(2)->rights == Rights{{"100.64.3.7"_p, std::nullopt}});
    committed(*database, [](Change& change) { add_pool(change, "100.64.0.0/10"_p, {}, Action::drop); });
    CHECK(delta(3)->pools->size() == 1);
    CHECK_FALSE(delta(3)->relays);
    committed(*database, [](Change& change) { add_relay(change, "203.0.113.10"_p, {}, {}); });
    CHECK(delta(4)->relays->size() == 1);
    CHECK_FALSE(delta(4)->pools);
}

TEST_CASE("policy: a right that ended is named even when a writer has moved it to history meanwhile") {
    ScratchDatabase database;
    committed(*database, [](Change& change) {
        assign(change, "c1", "100.64.3.7"_p, change.time() + Seconds(60), false);
        grant(change, "c1", Seconds(3600));
    });
    const Instant then = now();
    let_pass(*database, Seconds(100));
    committed(*database, [](Change& change) { assign(change, "c2", "100.64.3.0/24"_p, {}, false); });
    const auto delta = read_delta(*database, 1, then - Seconds(100), now(), 100);
    using Rights = std::vector<std::pair<Prefix, std::optional<Instant>>>;
    CHECK(delta->rights == Rights{{"100.64.3.0/24"_p, std::nullopt}, {"100.64.3.7"_p, std::nullopt}});
}

TEST_CASE("policy: what a change did so far, before its commit") {
    ScratchDatabase database;
    committed(*database, [](Change& change) {
        assign(change, "c1", "100.64.3.7"_p, {}, false);
        assign(change, "c2", "100.64.3.8"_p, {}, false);
        grant(change, "c2", Seconds(3600));
    });
    Change change(*database, {"alice", {}, "host"}, "test");
    CHECK(read_delta(change, 10)->rights.empty());
    CHECK_FALSE(change.touched(Object::exemption));
    grant(change, "c1", Seconds(3600));
    CHECK(change.touched(Object::exemption));
    CHECK_FALSE(change.touched(Object::pool));
    const auto delta = read_delta(change, 10);
    REQUIRE(delta);
    CHECK(delta->revision == 2);
    REQUIRE(delta->rights.size() == 1);
    CHECK(delta->rights.front().first == "100.64.3.7"_p);
    CHECK(delta->rights.front().second == change.time() + Seconds(3600));
    CHECK_FALSE(delta->pools);
    CHECK(read_rights(*database, change.time()).size() == 2);
    assign(change, "c1", "100.64.3.9"_p, {}, false);
    CHECK_FALSE(read_delta(change, 1));
}

TEST_CASE("policy: no difference where the log does not lead") {
    ScratchDatabase database;
    for (int i = 0; i < 3; ++i) {
        committed(*database, [&](Change& change) {
            assign(change, "c1", Prefix::parse(fmt::format("100.64.3.{}", i)), {}, false);
        });
    }
    const Instant t = now();
    CHECK(read_delta(*database, 0, t, t, 100));
    CHECK_FALSE(read_delta(*database, 4, t, t, 100));                  // an older database was restored
    CHECK_FALSE(read_delta(*database, 1, t - Seconds(3601), t, 100));  // history may be forgotten
    CHECK_FALSE(read_delta(*database, 1, t + Seconds(1), t, 100));     // the clock went back
    CHECK_FALSE(read_delta(*database, 0, t, t, 2));                    // more than the limit
    CHECK(read_delta(*database, 0, t, t, 3));
    committed(*database, [](Change& change) { grant(change, "c1", Seconds(60)); });
    CHECK_FALSE(read_delta(*database, 3, t, t, 2));
    let_pass(*database, Seconds(100));
    CHECK_FALSE(read_delta(*database, 4, t - Seconds(100), t, 2));
    CHECK(read_delta(*database, 4, t - Seconds(100), t, 3)->rights.size() == 3);
}

TEST_CASE("policy: why a prefix is exempt or not") {
    ScratchDatabase database;
    const auto cause = [&](const Prefix& prefix) { return right_cause(*database, prefix, now()); };
    CHECK(cause("100.64.3.7"_p) == "never assigned to a customer");
    committed(*database, [](Change& change) { assign(change, "c1", "100.64.3.0/24"_p, {}, false); });
    CHECK(cause("100.64.3.0/24"_p) == "held by customer c1, who never had an exemption");
    CHECK(cause("100.64.3.7"_p) == "held by customer c1, who never had an exemption");
    committed(*database, [](Change& change) { grant(change, "c1", Seconds(3600)); });
    const std::string until = format_instant(exemption(*database, "c1")->until);
    CHECK(cause("100.64.3.7"_p) == "customer c1 exempt until " + until + " (ticket T1)");
    committed(*database, [](Change& change) { revoke_exemption(change, "c1", "spam seen"); });
    CHECK(cause("100.64.3.7"_p) == "exemption of c1 revoked at revision 3 by alice: spam seen");
    committed(*database, [](Change& change) { grant(change, "c1", Seconds(3600)); });
    const Instant end = now() + Seconds(600);
    committed(*database, [&](Change& change) { assign(change, "c1", "100.64.3.0/24"_p, end, false); });
    CHECK_THAT(cause("100.64.3.7"_p), Catch::EndsWith("assigned until " + format_instant(end)));
    committed(
        *database, [](Change& change) { release(change, "100.64.3.0/24"_p); }, "release");
    CHECK(cause("100.64.3.0/24"_p) == "released at revision 6 by alice (release); was customer c1's");
    committed(*database, [&](Change& change) { assign(change, "c2", "100.64.4.0/24"_p, now() + Seconds(60), false); });
    let_pass(*database, Seconds(100));
    CHECK_THAT(cause("100.64.4.0/24"_p), Catch::StartsWith("assignment to customer c2 ended 2"));
    committed(*database, [&](Change& change) { assign(change, "c1", "100.64.5.0/24"_p, {}, false); });
    let_pass(*database, Seconds(3600));
    CHECK_THAT(cause("100.64.5.0/24"_p), Catch::StartsWith("exemption of c1 ended 2"));
}

TEST_CASE("policy: why a pool or relay is there or not") {
    ScratchDatabase database;
    const auto cause = [&] { return object_cause(*database, Object::pool, "100.64.0.0/10"_p); };
    CHECK(cause() == "never in the database");
    committed(
        *database, [](Change& change) { add_pool(change, "100.64.0.0/10"_p, {}, Action::drop); }, "pool add");
    CHECK(cause() == "added at revision 1 by alice (pool add)");
    committed(
        *database, [](Change& change) { set_pool(change, "100.64.0.0/10"_p, Action::pass); }, "pool set");
    CHECK(cause() == "changed at revision 2 by alice (pool set)");
    Change change(*database, {"bob", {}, "edge1"}, "pool remove", "moved");
    remove_pool(change, "100.64.0.0/10"_p);
    change.commit();
    CHECK(cause() == "removed at revision 3 by bob (pool remove): moved");
    CHECK(object_cause(*database, Object::relay, "100.64.0.0/10"_p) == "never in the database");
}
