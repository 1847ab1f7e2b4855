// What others do to the table is put right: Enforcement's half in controller/verification.cpp.

#include <catch2/catch.hpp>
#include <cerrno>

#include "controller/followed_router.hpp"
#include "rules/layout.hpp"

using namespace smtpfence;

TEST_CASE("verification: drift is put right, and counted") {
    ExemptRouter router;
    CHECK(router.enforcement.verify(now(), false) == 0);
    CHECK(router.enforcement.verify(now(), true) == 0);

    SECTION("elements") {
        router.kernel.meddle([](Fence& table) {
            table.sets["pool4"].elements.clear();
            table.sets["relay4"].elements[to_key("192.0.2.1"_p)] = {};
        });
        CHECK(router.enforcement.verify(now(), false) == 2);
    }
    SECTION("a rule") {
        router.kernel.meddle([](Fence& table) { table.chains["outbound"].rules.pop_back(); });
        CHECK(router.enforcement.verify(now(), false) > 0);
    }
    SECTION("the whole table") {
        router.kernel.flush();
        CHECK(router.enforcement.verify(now(), false) > 10);
    }
    CHECK(router.differences() == 0);
    CHECK(router.enforcement.verify(now(), true) == 0);
    router.revoke("c1");
    CHECK_FALSE(router.follow().full);
    CHECK(router.differences() == 0);
}

TEST_CASE("verification: what closes comes back before any exemption") {
    ExemptRouter router;
    const Fence before = router.kernel.read();
    SECTION("the whole table") { router.kernel.flush(); }
    SECTION("rules and exemptions") {
        router.kernel.meddle([](Fence& table) {
            table.chains["outbound"].rules.clear();
            table.sets["exempt4_32"].elements.clear();
        });
    }
    const size_t already = router.kernel.commits.size();
    router.enforcement.verify(now(), false);
    CHECK(router.kernel.read() == before);
    std::string order;
    for (size_t i = already; i < router.kernel.commits.size(); ++i) {
        for (const Operation& operation : router.kernel.commits[i].operations) {
            const auto* add = std::get_if<AddElements>(&operation);
            if (std::holds_alternative<ReplaceRules>(operation) && !order.ends_with("rules ")) order += "rules ";
            if (add && parse_exempt_set_name(add->set) && !order.ends_with("exemptions ")) order += "exemptions ";
        }
    }
    CHECK(order == "rules exemptions ");
}

TEST_CASE("verification: a repair that the kernel refused half-way is finished without the database") {
    ExemptRouter router;
    const Fence before = router.kernel.read();
    for (size_t done = 0; done < 4; ++done) {
        router.kernel.flush();
        router.kernel.fail_commit(done, ENOMEM);
        CHECK_THROWS_AS(router.enforcement.verify(now(), false), KernelError);
        CHECK(router.enforcement.verify(now(), false) > 0);
        CHECK(router.kernel.read() == before);
    }
    router.revoke("c1");
    router.follow();
    CHECK(router.differences() == 0);
}

TEST_CASE("verification: a commit of another program elsewhere is heard and costs nothing") {
    ExemptRouter router;
    const size_t readings = router.kernel.readings;
    router.kernel.move_generation();
    router.revoke("c1");
    router.kernel.interfere([](Fence&) {});  // and one more, between the look and the write
    CHECK(router.enforcement.verify(now(), false) == 0);
    CHECK_FALSE(router.follow().full);
    CHECK(router.enforcement.verify(now(), false) == 0);
    CHECK(router.kernel.readings == readings);
    CHECK(router.kernel.asked == 0);
    CHECK_FALSE(router.exempt("100.64.3.7"));
    CHECK(router.enforcement.culprits().empty());
}

TEST_CASE("verification: what somebody committed unheard is found by asking for each exemption") {
    ExemptRouter router;
    const Fence before = router.kernel.read();
    const size_t readings = router.kernel.readings;
    router.kernel.deafen();
    bool surplus = false;
    SECTION("nothing of ours") { router.kernel.move_generation(); }
    SECTION("an exemption less") {
        router.kernel.meddle([](Fence& table) { table.sets["exempt4_32"].elements.clear(); });
    }
    SECTION("another end") {
        router.kernel.meddle(
            [](Fence& table) { table.sets["exempt4_32"].elements.begin()->second.until = now() + Seconds{5}; });
    }
    SECTION("an exemption more") {
        router.kernel.meddle([](Fence& table) { table.sets["exempt4_32"].elements[to_key("192.0.2.1"_p)] = {}; });
        surplus = true;
    }
    router.enforcement.verify(now(), false);
    CHECK(router.kernel.readings == readings + (surplus ? 1 : 0));
    CHECK(router.kernel.asked == 2);
    CHECK(router.kernel.read() == before);
    router.enforcement.verify(now(), false);
    CHECK(router.kernel.asked == 2);
}

TEST_CASE("verification: a sweep compares a few exemptions at a time, while others come and go") {
    Router router;
    router.enforcement.guard().set_limits({100, 100, {}});
    router.enforcement.take();
    committed(*router.database, [](Change& change) {
        for (uint8_t host = 1; host <= 10; ++host)
            assign(change, "c9", Prefix(Family::v4, {100, 64, 9, host}, 32), {}, false);
    });
    router.grant("c9");
    router.follow();
    CHECK_FALSE(router.enforcement.sweeping());
    CHECK(router.enforcement.verify(now(), true) == 0);
    REQUIRE(router.enforcement.sweeping());
    CHECK(router.enforcement.sweep(now(), 4) == 0);
    CHECK(router.kernel.asked == 4);
    router.kernel.lose("exempt4_32", to_key("100.64.9.2"_p));  // behind the sweep
    router.kernel.lose("exempt4_32", to_key("100.64.9.7"_p));
    router.grant("c1");
    router.follow();
    size_t healed = 0;
    while (router.enforcement.sweeping()) healed += router.enforcement.sweep(now(), 4);
    CHECK(healed == 1);
    CHECK(router.enforcement.verify(now(), true) == 0);
    while (router.enforcement.sweeping()) healed += router.enforcement.sweep(now(), 4);
    CHECK(healed == 2);
    CHECK(router.differences() == 0);
    CHECK(router.exempt("100.64.3.7"));
}

TEST_CASE("verification: what ended by itself is counted for a while, and hides nothing else") {
    ExemptRouter router;
    router.kernel.owned_by_us = true;  // so that nothing but the sweep looks
    const Instant end = router.enforcement.next_end().value();
    router.kernel.interfere([&](Fence&) { router.kernel.uncollected["exempt4_32"] = 1; });
    REQUIRE(router.enforcement.expire(end) == 2);
    const auto slip_in = [&](uint8_t addresses) {
        router.kernel.meddle([&](Fence& table) {
            for (uint8_t host = 1; host <= addresses; ++host)
                table.sets.at("exempt4_32")
                    .elements.emplace(to_key(Prefix(Family::v4, {100, 64, 8, host}, 32)), Held{});
        });
    };
    const auto swept = [&](Instant time) {
        size_t healed = router.enforcement.verify(time, true);
        while (router.enforcement.sweeping()) healed += router.enforcement.sweep(time, 100);
        return healed;
    };
    const size_t readings = router.kernel.readings;
    CHECK(swept(end) == 0);
    CHECK(router.kernel.readings == readings);
    slip_in(1);
    CHECK(swept(end + Seconds{1}) == 1);
    CHECK(router.kernel.readings == readings + 1);
    CHECK(swept(end + Seconds{11}) == 0);  // nobody knows any more why it is counted, and a reading shows nothing
    CHECK(router.kernel.readings == readings + 2);
    CHECK(swept(end + Seconds{12}) == 0);
    CHECK(router.kernel.readings == readings + 2);
    slip_in(1);
    CHECK(swept(end + Seconds{13}) == 1);
}

TEST_CASE("verification: what was collected is allowed for no longer") {
    ExemptRouter router;
    router.kernel.owned_by_us = true;
    router.kernel.interfere([&](Fence&) { router.kernel.uncollected["exempt4_32"] = 1; });
    const Instant end = router.enforcement.next_end().value();
    REQUIRE(router.enforcement.expire(end) == 2);
    const auto ended = [&] { return router.enforcement.applied().sets.at("exempt4_32").ended.size(); };
    const auto sweep = [&] {
        router.enforcement.verify(end, true);
        while (router.enforcement.sweeping()) router.enforcement.sweep(end, 100);
    };
    sweep();
    CHECK(ended() == 1);
    router.kernel.uncollected.clear();
    sweep();
    CHECK(ended() == 0);
}

TEST_CASE("verification: a commit of somebody else in the middle loses nothing") {
    Router router;
    router.enforcement.guard().set_limits({100, 100, {}});
    router.enforcement.take();
    router.grant("c1");
    router.follow();
    committed(*router.database, [](Change& change) { assign(change, "c2", "100.64.3.9"_p, {}, false); });
    const bool granting = GENERATE(true, false);
    if (granting) {
        router.grant("c2");
    } else {
        router.revoke("c1");
    }
    SECTION("elsewhere") {
        router.kernel.interfere([](Fence&) {});
    }
    SECTION("his relay") {
        router.kernel.interfere([](Fence& table) { table.sets["relay4"].elements[to_key("192.0.2.9"_p)] = {}; });
    }
    SECTION("his exemption") {
        router.kernel.interfere([](Fence& table) { table.sets["exempt4_32"].elements[to_key("192.0.2.9"_p)] = {}; });
    }
    SECTION("his deletion of everything in it") {
        router.kernel.interfere([](Fence& table) { table = {}; });
    }
    try {
        router.follow();
    } catch (const KernelError&) {
        router.enforcement.verify(now(), false);
        router.follow();
    }
    router.enforcement.verify(now(), false);
    CHECK(router.differences() == 0);
    CHECK(router.exempt("100.64.3.9") == granting);
    CHECK(router.exempt("100.64.3.7") == granting);
}

TEST_CASE("verification: whoever touched the table is named, and nobody else") {
    Router router;
    router.enforcement.take();
    router.follow();
    router.kernel.move_generation();
    router.enforcement.verify(now(), false);
    CHECK(router.enforcement.culprits().empty());
    router.kernel.meddle([](Fence& table) { table.sets["relay4"].elements.clear(); });
    router.kernel.meddle([](Fence& table) { table.sets["pool4"].elements.clear(); });
    CHECK(router.enforcement.verify(now(), false) == 2);
    CHECK(router.enforcement.culprits() == "nft (process 4242)");
    CHECK(router.enforcement.culprits().empty());
}

TEST_CASE("verification: where the table is ours alone, nobody else's commit is looked at") {
    Router router;
    router.kernel.owned_by_us = true;
    router.enforcement.take();
    router.grant("c1");
    router.follow();
    const size_t readings = router.kernel.readings;
    router.kernel.move_generation();
    CHECK(router.enforcement.verify(now(), false) == 0);
    router.revoke("c1");
    CHECK_FALSE(router.follow().full);
    CHECK(router.kernel.readings == readings);
    CHECK(router.kernel.asked == 0);
}

TEST_CASE("verification: a set that somebody made anew is filled again, whatever fails in between") {
    ExemptRouter router;
    const Fence before = router.kernel.read();
    router.kernel.remake("exempt4_32");
    SECTION("at once") {}
    SECTION("after a refusal") {
        router.kernel.fail_commit(0, ENOMEM);
        CHECK_THROWS_AS(router.enforcement.verify(now(), false), KernelError);
    }
    CHECK(router.enforcement.verify(now(), false) > 0);
    CHECK(router.kernel.read() == before);
    CHECK(router.enforcement.verify(now(), true) == 0);
    while (router.enforcement.sweeping()) CHECK(router.enforcement.sweep(now(), 4) == 0);
    CHECK(router.kernel.read() == before);
}

TEST_CASE("verification: a pass that can't read what others made of the table forgets neither them nor its own") {
    ExemptRouter router;
    const Fence before = router.kernel.read();
    router.enforcement.compare_all();
    router.kernel.deafen();
    router.kernel.meddle([](Fence& table) { table.sets["exempt4_32"].elements.clear(); });
    router.kernel.other_owner = "pid 7 (other)";
    CHECK_THROWS_AS(router.follow(), KernelError);
    CHECK_FALSE(router.enforcement.applied().empty());
    router.kernel.other_owner.clear();
    CHECK(router.enforcement.verify(now(), false) > 0);
    CHECK(router.kernel.read() == before);
    CHECK(router.follow().changes == 0);
}
