// A new process beside the kernel that an earlier one left.

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <thread>

#include "controller/followed_router.hpp"
#include "rules/fence_record.hpp"

using namespace smtpfence;

namespace {

/// A router whose process ended after a pass, and a new one beside the same kernel.
struct Restarted : ExemptRouter {
    Enforcement again{kernel, Border{}};
    InForce last{enforcement.applied(), *enforcement.revision(), enforcement.mark()};

    bool resume(Comparison comparison = Comparison::keys) {
        again.take(last.fence, comparison);
        return again.resume(last, now());
    }
};

}  // namespace

TEST_CASE("enforcement: a restart goes on by the change log, and writes nothing when nothing changed") {
    Restarted router;
    const size_t before = router.kernel.commits.size();
    REQUIRE(router.resume());
    CHECK(router.again.revision() == router.last.revision);
    const Pass pass = router.again.follow(*router.database, now());
    CHECK_FALSE(pass.full);
    CHECK(pass.changes == 0);
    CHECK(router.kernel.commits.size() == before);
}

TEST_CASE("enforcement: what changed during a restart is asked of the change log alone") {
    Restarted router;
    router.revoke("c1");
    committed(*router.database, [](Change& change) { assign(change, "c2", "100.64.9.9"_p, {}, false); });
    router.grant("c2");
    REQUIRE(router.resume());
    const Pass pass = router.again.follow(*router.database, now());
    CHECK_FALSE(pass.full);
    CHECK(pass.changes == 3);
    CHECK(router.differences() == 0);
}

TEST_CASE("enforcement: what was damaged meanwhile is mended before the database is asked") {
    Restarted router;
    const Fence before = router.kernel.read();
    bool exempt = true;
    SECTION("a rule") {
        router.kernel.meddle([](Fence& table) { table.chains.at("outbound").rules.pop_back(); });
    }
    SECTION("relays and pools") {
        router.kernel.meddle([](Fence& table) {
            table.sets.at("pool4").elements.clear();
            table.sets.at("relay4").elements.clear();
        });
    }
    SECTION("a set") {
        router.kernel.meddle([](Fence& table) {
            table.chains.at("outbound").rules.clear();
            table.chains.at("inbound").rules.clear();
            table.sets.erase("pool6");
        });
    }
    SECTION("the kind of a set, which makes all sets anew") {
        router.kernel.meddle([](Fence& table) { table.sets.at("pool4").shape.dynamic = true; });
    }
    SECTION("nothing that would be taken for damage: rights that ended and pools that changed") {
        router.kernel.meddle([](Fence& table) {
            table.sets.at("pool4").elements.emplace(to_key("100.70.0.0/16"_p), Held{Action::drop, never});
            table.sets.at("exempt4_32").elements.clear();
        });
        exempt = false;
    }
    router.again.take(router.last.fence);
    const size_t changes = router.again.mend(router.last.fence, now());
    CHECK((changes == 0) == !exempt);
    CHECK((router.kernel.read() == before) == exempt);
    CHECK(router.again.mend(router.last.fence, now()) == 0);
}

TEST_CASE("enforcement: a fence of another version is left to the first pass") {
    Restarted router;
    router.kernel.meddle([](Fence& table) {
        table.chains["inboundz"] = table.chains.at("inbound");
        table.chains.at("outbound").rules.pop_back();
    });
    router.again.take(router.last.fence);
    CHECK(router.again.mend(router.last.fence, now()) == 0);
}

TEST_CASE("enforcement: where the kernel takes no exemptions, what closes is in force all the same") {
    Router router;
    router.grant("c1");
    Enforcement& enforcement = router.enforcement;
    enforcement.take();
    SECTION("no set for them") { router.kernel.fail_commit(2, ENOMEM); }
    SECTION("no room in it") { router.kernel.fail_commit(3, ENFILE); }
    CHECK_THROWS_AS(router.follow(), KernelError);
    CHECK(in_force(router.kernel.read()));
    CHECK_FALSE(closed_space(router.kernel.read()).empty());
    CHECK_FALSE(enforcement.revision());
    router.follow();
    CHECK(router.differences() == 0);
    CHECK(router.exempt("100.64.3.7"));
}

TEST_CASE("enforcement: where the last good fence does not hold, a restart compares everything") {
    Restarted router;
    std::optional<Border> border;
    SECTION("not known which revision it is") { router.last.mark.clear(); }
    SECTION("the kernel holds another one") { router.kernel.lose("exempt4_32", to_key("100.64.3.7"_p)); }
    SECTION("other rules") {
        router.kernel.meddle([](Fence& table) { table.chains.at("border").rules.pop_back(); });
    }
    SECTION("another configuration") { border = Border{{"bng0"}, Action::drop}; }
    if (border) router.again.set_border(*border);
    CHECK_FALSE(router.resume());
    router.again.measure_against(router.last);
    const Pass pass = router.again.follow(*router.database, now());
    CHECK(pass.full);
    CHECK((pass.changes > 0) == !router.last.mark.empty());
    if (!border) CHECK(router.differences() == 0);
}

TEST_CASE("enforcement: another history with the same number is compared as a whole after a restart") {
    Restarted router;
    router.last.mark = std::string(64, '0');
    REQUIRE(router.resume());
    CHECK(router.again.follow(*router.database, now()).full);
}

TEST_CASE("enforcement: what was compared by numbers is swept through, and then it is as it should be") {
    Restarted router;
    router.kernel.meddle([](Fence& table) {
        auto& elements = table.sets.at("exempt4_32").elements;
        elements.clear();
        elements.emplace(to_key("100.64.8.8"_p), Held{});
    });
    REQUIRE(router.resume(Comparison::numbers));
    CHECK_FALSE(router.again.follow(*router.database, now()).full);
    CHECK(router.exempt("100.64.8.8"));
    REQUIRE(router.again.sweeping());
    size_t healed = 0;
    while (router.again.sweeping()) healed += router.again.sweep(now(), 10);
    CHECK(healed == 2);
    CHECK(router.differences() == 0);
}

TEST_CASE("enforcement: before the first pass writes, what stays is asked for, and what goes is not") {
    Restarted router;
    std::optional<PolicyReading> reading;
    size_t asked = 2;
    bool exchanged = false;
    SECTION("nothing changed") {}
    SECTION("everything goes") {
        router.revoke("c1");
        asked = 0;
    }
    SECTION("somebody exchanged what stays, one for one") { exchanged = true; }
    SECTION("somebody exchanged what goes, one for one") {
        router.revoke("c1");
        asked = 0;
        exchanged = true;
    }
    SECTION("everything goes by a policy that a thread has read") {
        router.revoke("c1");
        reading.emplace(router.database.url(), now());
        while (!reading->over()) std::this_thread::yield();
        asked = 0;
    }
    if (exchanged) {
        router.kernel.deafen();
        router.kernel.meddle([](Fence& table) {
            auto& elements = table.sets.at("exempt4_32").elements;
            elements.clear();
            elements.emplace(to_key("100.64.8.8"_p), Held{});
        });
    }
    router.again.take(router.last.fence, Comparison::numbers);
    router.again.ask_before_writing();
    REQUIRE(router.kernel.asked == 0);
    const size_t before = router.kernel.commits.size();
    const Pass pass = router.again.follow(*router.database, now(), reading ? &*reading : nullptr);
    CHECK(pass.full);
    CHECK(router.kernel.asked == asked);
    CHECK_FALSE(router.again.sweeping());
    CHECK(router.differences() == 0);
    CHECK(router.exempt("100.64.3.7") == (asked > 0));
    CHECK_FALSE(router.exempt("100.64.8.8"));
    CHECK((router.kernel.commits.size() == before) == (asked > 0 && !exchanged));
}

TEST_CASE("enforcement: where the kernel holds the last good fence, that is what the guard measures against") {
    Restarted router;
    committed(*router.database, [](Change& change) { remove_pool(change, "100.64.0.0/16"_p); });
    bool held = true;
    SECTION("nothing else happened") {}
    SECTION("exemptions were exchanged, one for one") {
        router.kernel.meddle([](Fence& table) {
            auto& elements = table.sets.at("exempt4_32").elements;
            elements.clear();
            elements.emplace(to_key("100.64.8.8"_p), Held{});
        });
        router.kernel.deafen();
    }
    SECTION("an exemption is missing") {
        router.kernel.lose("exempt4_32", to_key("100.64.3.7"_p));
        held = false;
    }
    SECTION("a pool is missing") {
        router.kernel.lose("pool4", to_key("100.64.0.0/16"_p));
        held = false;
    }
    SECTION("a relay is missing") {
        router.kernel.lose("relay4", to_key("203.0.113.10"_p));
        held = false;
    }
    SECTION("all is missing") {
        router.kernel.remove();
        held = false;
    }
    REQUIRE(router.again.take(InForce(router.last)) == held);
    if (!held) router.again.measure_against(router.last);
    router.again.ask_before_writing();
    router.again.follow(*router.database, now());
    REQUIRE(router.again.guard().withheld());
    CHECK(text(router.again.guard().withheld()->widening) == "release 100.64.0.0/16\n");
    CHECK(router.again.guard().openings().empty());  // what was put back opened nothing
    const Fence table = router.kernel.read();
    CHECK(same_record(table, router.last.fence));
}

TEST_CASE("enforcement: a policy that was read before is brought up to what changed since") {
    Restarted router;
    PolicyReading reading(router.database.url(), now());
    SECTION("nothing") {}
    SECTION("a revocation") { router.revoke("c1"); }
    SECTION("more than can be asked for") {
        committed(*router.database, [](Change& change) {
            for (size_t number = 0; number < delta_limit + 10; ++number)
                assign(change, "c2", Prefix::parse(fmt::format("100.65.{}.{}", number / 256, number % 256)), {}, false);
        });
        router.revoke("c1");
    }
    SECTION("a reading that failed") {
        PolicyReading failed("sqlite:/nonexistent/subscribers.db", now());
        CHECK(router.again.follow(*router.database, now(), &failed).full);
        CHECK(failed.taken());
    }
    router.again.take(router.last.fence);
    const Pass pass = router.again.follow(*router.database, now(), &reading);
    CHECK(pass.full);
    CHECK(reading.taken());
    CHECK(router.differences() == 0);
    CHECK(pass.revision == current_revision(*router.database));
}
