#include "controller/enforcement.hpp"

#include <catch2/catch.hpp>

#include "controller/followed_router.hpp"
#include "rules/layout.hpp"
#include "rules/scenario.hpp"

using namespace smtpfence;
using namespace std::chrono_literals;

TEST_CASE("enforcement: the first pass brings the kernel to the database's revision") {
    Router router;
    router.enforcement.take();
    CHECK_FALSE(router.enforcement.revision());
    const Pass pass = router.follow();
    CHECK(pass.full);
    CHECK(pass.revision == 1);
    CHECK(router.differences() == 0);
    CHECK(router.kernel.find("pool4", to_key("100.64.3.7"_p))->second.action == Action::drop);
    CHECK_FALSE(router.exempt("100.64.3.7"));
}

TEST_CASE("enforcement: a grant and a revocation are one transaction with the customer's elements") {
    Router router;
    router.enforcement.take();
    router.follow();
    const size_t before = router.kernel.commits.size();
    const size_t readings = router.kernel.readings;

    router.grant("c1");
    const Pass granted = router.follow();
    CHECK_FALSE(granted.full);
    CHECK(granted.changes == 2);
    CHECK(router.kernel.readings == readings);
    CHECK(router.exempt("100.64.3.7"));
    CHECK(router.exempt("2001:db8:100:700::/56"));

    router.revoke("c1");
    CHECK(router.follow().changes == 2);
    CHECK_FALSE(router.exempt("100.64.3.7"));
    CHECK(router.kernel.commits.size() <= before + 4);
    CHECK(router.differences() == 0);
}

TEST_CASE("enforcement: nothing to do writes nothing, also after a restart") {
    ExemptRouter router;
    const size_t before = router.kernel.commits.size();
    CHECK(router.follow().changes == 0);
    Enforcement again(router.kernel, {});
    again.take();
    CHECK(again.follow(*router.database, now()).changes == 0);
    CHECK(again.revision() == 2);
    CHECK(router.kernel.commits.size() == before);
}

TEST_CASE("enforcement: an address that changes hands is closed before anything opens") {
    Router router;
    router.enforcement.take();
    router.grant("c1");
    router.grant("c2");
    router.follow();
    const size_t before = router.kernel.commits.size();
    committed(*router.database, [](Change& change) {
        assign(change, "c3", "100.64.3.7"_p, {}, true);
        assign(change, "c2", "100.64.3.8"_p, {}, false);
    });
    router.follow();
    REQUIRE(router.kernel.commits.size() == before + 2);
    CHECK(std::get<DeleteElements>(router.kernel.commits[before].operations.at(0)).elements.size() == 1);
    CHECK(std::get<AddElements>(router.kernel.commits[before + 1].operations.at(0)).elements.size() == 1);
    CHECK_FALSE(router.exempt("100.64.3.7"));
    CHECK(router.exempt("100.64.3.8"));
}

TEST_CASE("enforcement: a fence without a relay is refused, and what is in force stays") {
    Router router;
    router.enforcement.take();
    router.follow();
    const Fence before = router.kernel.read();
    router.database->query("DELETE FROM relay", {});  // `relay remove` refuses; another program might not
    router.enforcement.set_border({});
    CHECK(refusal([&] { router.follow(); }).starts_with("conflict: no relay"));
    CHECK(router.kernel.read() == before);
    CHECK(refusal([&] {
              make_plan(*router.database, router.kernel, {}, {}, Guard({}), now());
          }).starts_with("conflict: no relay"));
}

TEST_CASE("enforcement: rights go on ending and beginning while there is no relay") {
    Router router;
    router.enforcement.guard().set_limits({100, 100, {}});
    router.enforcement.take();
    router.grant("c1");
    router.follow();
    const auto relays_and_pools = [&] {
        const Fence fence = router.kernel.read();
        return std::pair(fence.sets.at("relay4").elements, fence.sets.at("pool4").elements);
    };
    const auto in_force = relays_and_pools();
    committed(*router.database, [](Change& change) {
        for (const Pool& pool : pools(change.database())) set_pool(change, pool.prefix, Action::observe);
        remove_relay(change, "203.0.113.10"_p);
        set_pool(change, "100.64.0.0/16"_p, Action::reject);
    });
    SECTION("step by step") {
        CHECK(refusal([&] { router.follow(); }).starts_with("conflict: no relay"));
    }
    SECTION("everything compared") { router.enforcement.compare_all(); }
    router.revoke("c1");
    committed(*router.database, [](Change& change) { assign(change, "c2", "100.64.3.9"_p, {}, false); });
    router.grant("c2");
    CHECK(refusal([&] { router.follow(); }).starts_with("conflict: no relay"));
    CHECK_FALSE(router.exempt("100.64.3.7"));
    CHECK(router.exempt("100.64.3.9"));
    CHECK(relays_and_pools() == in_force);
    CHECK(router.enforcement.revision() == 2);

    committed(*router.database, [](Change& change) { add_relay(change, "203.0.113.11"_p, {}, {}); });
    CHECK(router.follow().revision == 7);
    CHECK(router.differences() == 0);
}

TEST_CASE("enforcement: what the kernel refuses is tried again, and a revocation doesn't wait for a grant") {
    ExemptRouter router;
    committed(*router.database, [](Change& change) {
        revoke_exemption(change, "c1", "test");
        assign(change, "c2", "100.64.3.9"_p, {}, false);
        grant_exemption(change, {"c2", "test", {}, {}, 3600s, {}});
    });
    // Each prefix length has a set, so the revocation is two transactions; the grant's is refused.
    const auto delta = read_delta(*router.database, 2, now(), now(), 1000);
    const auto changes = difference(router.enforcement.applied(), *delta, now());
    router.kernel.fail_commit(changes->transactions.size() - 1, ENOMEM);
    CHECK_THROWS_AS(router.follow(), KernelError);
    CHECK_FALSE(router.exempt("100.64.3.7"));
    CHECK_FALSE(router.exempt("100.64.3.9"));
    CHECK(router.enforcement.revision() == 2);

    const Pass pass = router.follow();
    CHECK(pass.full);
    CHECK(pass.revision == 3);
    CHECK(router.exempt("100.64.3.9"));
    CHECK(router.differences() == 0);
}

TEST_CASE("enforcement: a revocation doesn't wait for a set that the kernel has no memory for") {
    ExemptRouter router;
    committed(*router.database, [](Change& change) {
        revoke_exemption(change, "c1", "test");
        assign(change, "c2", "100.64.3.16/29"_p, {}, false);  // no set is there for this length
        grant_exemption(change, {"c2", "test", {}, {}, 3600s, {}});
    });
    router.kernel.fail_commit(2, ENOMEM);  // the revocation is two transactions, as above
    CHECK_THROWS_AS(router.follow(), KernelError);
    CHECK_FALSE(router.exempt("100.64.3.7"));
    CHECK_FALSE(router.enforcement.applied().sets.contains("exempt4_29"));

    CHECK(router.follow().revision == 3);
    CHECK(router.enforcement.applied().sets.at("exempt4_29").elements.size() == 1);
    CHECK(router.differences() == 0);
}

TEST_CASE("enforcement: most of a large set ends with it, whatever the kernel refuses on the way") {
    CrowdedRouter router;
    size_t ended_at_once = 0;
    SECTION("nothing") { ended_at_once = 999; }
    SECTION("a second set") { router.kernel.fail_commit(0, ENOMEM); }
    SECTION("what stays in it") { router.kernel.fail_commit(1, ENOMEM); }
    SECTION("the step to it") { router.kernel.fail_commit(2, ENOMEM); }
    SECTION("the first new right") {
        router.kernel.fail_commit(4, ENOMEM);
        ended_at_once = 999;
    }
    try {
        router.follow();
    } catch (const KernelError&) {
        CHECK_FALSE(router.exempt("100.64.1.9"));
        CHECK_FALSE(router.exempt("100.127.0.9"));
        router.follow();
    }
    CHECK(router.ended_at_once() == ended_at_once);
    CHECK(router.exempt("100.64.3.7"));
    CHECK(router.exempt("100.127.0.9"));
    CHECK(router.differences() == 0);
    CHECK(router.enforcement.applied() == router.kernel.read());
}

TEST_CASE("enforcement: a set that everybody left is filled, whatever the kernel refuses on the way") {
    Router router;
    router.grant_many(1, 12'000);
    router.enforcement.replace_sets_from(500);
    router.enforcement.take();
    router.enforcement.restore(compile(many_rights(1000, now()), {}, {}), now());
    size_t noted = 0;
    router.enforcement.on_commit([&](const Transaction& transaction) {
        for (const Operation& operation : transaction.operations) {
            const auto* added = std::get_if<AddElements>(&operation);
            if (added && parse_exempt_set_name(added->set)) noted += added->elements.size();
        }
    });
    size_t filled = 12'000;
    SECTION("nothing") {}
    SECTION("the first 10000") {
        router.kernel.fail_commit(3, ENOMEM);
        filled = 0;
    }
    SECTION("the rest") {
        router.kernel.fail_commit(4, ENOMEM);
        filled = 10'000;
    }
    const auto exempt = [&] {
        const Fence& applied = router.enforcement.applied();
        return applied.sets.at(exempt_set_of(applied, "100.66.0.0"_p).value()).elements.size();
    };
    if (filled < 12'000) {
        CHECK_THROWS_AS(router.follow(), KernelError);
        CHECK(router.enforcement.applied() == router.kernel.read());
        CHECK(exempt() == filled);
        CHECK(noted == filled);
    }
    const Pass pass = router.follow();
    CHECK(router.ended_at_once() == 1000);
    CHECK(exempt() == 12'000);
    CHECK(noted == 12'000);
    CHECK(pass.changes >= (filled == 12'000 ? 12'000 : 12'000 - filled));
    CHECK(router.enforcement.next_end().value() <= now() + Seconds(3600));
    CHECK(router.differences() == 0);
    CHECK(router.enforcement.applied() == router.kernel.read());
}

TEST_CASE("enforcement: what stays of a large set is what the kernel holds of it, not what it was taken for") {
    CrowdedRouter router;
    const Fence expected = router.kernel.read();
    router.kernel.meddle([](Fence& table) {
        Elements& elements = table.sets.at("exempt4_32").elements;
        elements.erase(to_key("100.64.3.7"_p));  // stays
        elements.emplace(to_key("198.51.100.9"_p), Held{});
    });
    router.kernel.foreign_commits();  // while no service heard of it
    Enforcement again(router.kernel, {});
    again.replace_sets_from(500);
    again.take(expected, Comparison::numbers);
    again.ask_before_writing();
    again.follow(*router.database, now());
    CHECK(router.ended_at_once() == 999);
    CHECK(router.differences() == 0);
    CHECK(again.applied() == router.kernel.read());
}

TEST_CASE("enforcement: most of a large set ends while others commit") {
    CrowdedRouter router;
    SECTION("to their own table") {
        router.kernel.interfere([](Fence&) {});
    }
    SECTION("to ours") {
        router.kernel.interfere([](Fence& table) { table.chains.at("outbound").rules.clear(); });
    }
    router.follow();
    router.enforcement.verify(now(), true);
    CHECK_FALSE(router.exempt("100.64.1.9"));
    CHECK(router.exempt("100.127.0.9"));
    CHECK(router.differences() == 0);
}

TEST_CASE("enforcement: a restored backup that went on to the same revision or a later one is compared as a whole") {
    Router router, backup;
    router.enforcement.take();
    router.grant("c1");
    backup.grant("c1");
    router.follow();
    router.grant("c2");
    router.follow();
    CHECK(router.exempt("100.64.3.7"));
    backup.revoke("c1");
    SECTION("the same revision") {}
    SECTION("a later revision") { backup.grant("c2"); }
    const Pass pass = router.enforcement.follow(*backup.database, now());
    CHECK(pass.full);
    CHECK_FALSE(router.exempt("100.64.3.7"));
    CHECK_FALSE(router.enforcement.follow(*backup.database, now()).full);
}

TEST_CASE("enforcement: rights end without the database") {
    Router router;
    router.enforcement.take();
    router.grant("c1", 60s);
    router.follow();
    const Instant end = router.enforcement.next_end().value();
    CHECK(router.enforcement.expire(end - 1s) == 0);
    CHECK(router.enforcement.expire(end) == 2);
    CHECK_FALSE(router.exempt("100.64.3.7"));
    CHECK_FALSE(router.enforcement.next_end());
}

TEST_CASE("enforcement: a renewal that a full comparison takes for the same end holds when that end comes") {
    ExemptRouter router;  // for 30 days, a thousandth of which is 43 minutes
    const Instant first = router.enforcement.next_end().value(), second = first + 1800s;
    committed(*router.database, [&](Change& change) {
        renew_exemption(change, {"c1", "asked again", {}, {}, {}, second});
    });
    router.enforcement.compare_all();
    CHECK(router.follow().changes == 0);
    for (const Instant clock : {first - 3600s, first + 60s}) {
        router.kernel.clock = clock;
        router.enforcement.verify(clock, true);
        while (router.enforcement.sweeping()) router.enforcement.sweep(clock, 1000);
        router.enforcement.expire(clock);
        CHECK(router.exempt("100.64.3.7"));
    }
    CHECK(router.enforcement.expire(second) == 2);
    router.kernel.clock = second;
    CHECK_FALSE(router.exempt("100.64.3.7"));
}

TEST_CASE("enforcement: a clock that is set moves the ends in the kernel, with the database gone") {
    Router router;
    router.enforcement.take();
    router.grant("c1", 3600s);
    router.follow();
    const Instant end = router.enforcement.next_end().value();
    const auto end_in_kernel = [&] {
        return router.kernel.find("exempt4_32", to_key("100.64.3.7"_p)).value().second.until;
    };
    Seconds step{};
    SECTION("forward") { step = 1800s; }
    SECTION("back") { step = -1800s; }
    router.set_clock(step);
    CHECK(end_in_kernel() == end + step);
    CHECK(router.enforcement.clock_stepped(now() + step) == 4);
    CHECK(end_in_kernel() == end);
    CHECK(router.enforcement.next_end() == end);
    CHECK(router.follow(now() + step).full);
    CHECK(router.enforcement.expire(end - 1s) == 0);
    CHECK(router.enforcement.expire(end) == 2);
}

TEST_CASE("enforcement: a clock that is set past an end ends the right, and set back brings it back") {
    Router router;
    router.enforcement.take();
    router.grant("c1", 3600s);
    router.follow();
    router.set_clock(7200s);
    CHECK(router.enforcement.clock_stepped(now() + 7200s) == 2);
    CHECK_FALSE(router.exempt("100.64.3.7"));
    CHECK(router.follow(now() + 7200s).changes == 0);
    router.set_clock(-7200s);
    router.enforcement.clock_stepped(now());
    CHECK_FALSE(router.exempt("100.64.3.7"));
    CHECK(router.follow().changes == 2);
    CHECK(router.exempt("100.64.3.7"));
    CHECK(router.differences() == 0);
}

TEST_CASE("enforcement: after half an hour without a pass it wants one, which costs nothing") {
    ExemptRouter router;
    CHECK_FALSE(router.enforcement.wants_pass(now() + Seconds{1790}));
    const Instant later = now() + Seconds{1810};
    CHECK(router.enforcement.wants_pass(later));
    const Pass pass = router.follow(later);
    CHECK_FALSE(pass.full);
    CHECK(pass.changes == 0);
    CHECK_FALSE(router.enforcement.wants_pass(later + Seconds{1790}));
    CHECK_FALSE(router.follow(later + Seconds{3500}).full);
}
