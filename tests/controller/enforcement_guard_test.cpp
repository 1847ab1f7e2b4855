// The guard within the pass: what a database asks, what the kernel then holds, and what is noted for the disk.

#include <catch2/catch.hpp>

#include "controller/followed_router.hpp"
#include "subscribers/router.hpp"

using namespace smtpfence;

namespace {

/// After its first pass.
struct Guarded : Router {
    size_t noted = 0;

    Guarded() {
        enforcement.take();
        follow();
        enforcement.on_commit([this](const Transaction&) { ++noted; });
    }
    void remove(const Prefix& pool) {
        committed(*database, [&](Change& change) { remove_pool(change, pool); });
    }
    bool fenced(const Prefix& prefix) const {
        return !common(closed_space(enforcement.applied()), {range_of(prefix)}).empty();
    }
    std::string withheld() const {
        const auto& held = enforcement.guard().withheld();
        return held ? text(held->widening) : "";
    }
};

void empty_everything(Database& database) {
    for (const char* table : {"relay", "pool"}) database.query(std::string("DELETE FROM ") + table, {});
}

}  // namespace

TEST_CASE("enforcement: the first fence of a router is not guarded, the second is") {
    Guarded router;
    CHECK(router.withheld().empty());
    router.remove("100.64.0.0/16"_p);
    const Pass pass = router.follow();
    CHECK(router.withheld() == "release 100.64.0.0/16\n");
    CHECK(router.fenced("100.64.0.0/16"_p));
    CHECK(pass.revision == current_revision(*router.database));
    CHECK(pass.changes == 0);
    CHECK(router.noted == 0);
}

TEST_CASE("enforcement: beside what is withheld, revocations and rights go on") {
    Guarded router;
    router.grant("c1");
    router.follow();
    router.remove("100.64.0.0/16"_p);
    router.follow();
    router.revoke("c1");
    committed(*router.database, [](Change& change) { assign(change, "c2", "100.64.3.8"_p, {}, false); });
    router.grant("c2");
    router.follow();
    CHECK(router.withheld() == "release 100.64.0.0/16\n");
    CHECK_FALSE(is_exempt(router.enforcement.applied(), "100.64.3.7"_p, now()));
    CHECK(is_exempt(router.enforcement.applied(), "100.64.3.8"_p, now()));
}

TEST_CASE("enforcement: a confirmation lets exactly that go") {
    Guarded router;
    router.remove("100.64.0.0/16"_p);
    router.follow();
    REQUIRE(router.enforcement.guard().confirm(router.enforcement.guard().withheld()->digest, now()));
    router.follow();
    CHECK(router.withheld().empty());
    CHECK_FALSE(router.fenced("100.64.0.0/16"_p));
    router.remove("2001:db8:100::/40"_p);
    router.follow();
    CHECK(router.withheld() == "release 2001:db8:100::/40\n");
}

TEST_CASE("enforcement: what was confirmed with its revision goes on every router") {
    Guarded router;
    committed(*router.database, [](Change& change) {
        remove_pool(change, "100.64.0.0/16"_p);
        confirm_openings(change, "", "release 100.64.0.0/16\n");
    });
    router.remove("2001:db8:100::/40"_p);
    router.follow();
    CHECK(router.withheld() == "release 2001:db8:100::/40\n");
    CHECK_FALSE(router.fenced("100.64.0.0/16"_p));
    // Once it has passed it covers nothing any more.
    committed(*router.database, [](Change& change) { add_pool(change, "100.64.0.0/16"_p, {}, Action::drop); });
    router.follow();
    router.remove("100.64.0.0/16"_p);
    router.follow();
    CHECK(router.withheld() == "release 100.64.0.0/16\nrelease 2001:db8:100::/40\n");
}

TEST_CASE("enforcement: exactly what was confirmed is known by its digest, anything else by its lines") {
    Guarded router;
    const Widening opening = parse_widening("release 100.64.0.0/16\n");
    const auto confirmed = [&](const Widening& digested, const char* lines) {
        committed(*router.database, [&](Change& change) {
            remove_pool(change, "100.64.0.0/16"_p);
            confirm_openings(change, digest_of(digested), lines);
        });
        router.follow();
    };
    SECTION("by the digest: the lines could not be read") {
        confirmed(opening, "open everything\n");
        CHECK_FALSE(router.fenced("100.64.0.0/16"_p));
    }
    SECTION("by the lines: what was confirmed is more") {
        confirmed(parse_widening("release 100.64.0.0/10\n"), "release 100.64.0.0/10\n");
        CHECK_FALSE(router.fenced("100.64.0.0/16"_p));
    }
    SECTION("by neither") {
        confirmed(parse_widening("release 100.65.0.0/16\n"), "release 100.65.0.0/16\n");
        CHECK(router.withheld() == text(opening));
        CHECK(router.fenced("100.64.0.0/16"_p));
    }
}

TEST_CASE("enforcement: a confirmation that this version does not know is none, and no revocation waits for it") {
    Guarded router;
    router.grant("c1");
    router.follow();
    REQUIRE(router.exempt("100.64.3.7"));
    committed(*router.database, [](Change& change) {
        remove_pool(change, "100.64.0.0/16"_p);
        confirm_openings(change, "", "open everything\nrelease 100.64.0.0/16\n");
    });
    router.revoke("c1");
    SECTION("by the change log") { router.follow(); }
    SECTION("everything compared") {
        router.enforcement.compare_all();
        router.follow();
    }
    SECTION("read by a thread") {
        router.enforcement.compare_all();
        PolicyReading reading(router.database.url(), now());
        router.enforcement.follow(*router.database, now(), &reading);
    }
    CHECK_FALSE(router.exempt("100.64.3.7"));
    CHECK(router.withheld() == "release 100.64.0.0/16\n");
    CHECK(router.fenced("100.64.0.0/16"_p));
}

TEST_CASE("enforcement: an empty database after a foreign flush opens nothing") {
    Guarded router;
    const Fence before = router.enforcement.applied();
    router.kernel.remove();
    empty_everything(*router.database);
    SECTION("healed first") {
        router.enforcement.verify(now(), false);
        CHECK(router.fenced("100.64.0.0/16"_p));
    }
    SECTION("found by the pass") {}
    router.enforcement.compare_all();
    router.follow();
    CHECK(router.fenced("100.64.0.0/16"_p));
    CHECK(closed_space(router.kernel.read()) == closed_space(before));
    CHECK(router.kernel.read().sets.at("relay4") == before.sets.at("relay4"));
}

TEST_CASE("enforcement: a new process measures against the last good fence, not the flushed kernel") {
    Guarded router;
    const Fence last = router.enforcement.applied();
    router.kernel.remove();
    empty_everything(*router.database);
    Enforcement fresh(router.kernel, {}, Guard({}));
    fresh.take();
    fresh.measure_against({last, router.enforcement.revision().value(), ""});
    fresh.follow(*router.database, now());
    CHECK(closed_space(router.kernel.read()) == closed_space(last));
    CHECK(fresh.guard().withheld());
}

TEST_CASE("enforcement: a first pass that is refused leaves the guard what it measures against") {
    Guarded router;
    const Fence last = router.enforcement.applied();
    router.database->query("DELETE FROM relay", {});
    Enforcement fresh(router.kernel, {}, Guard({}));
    fresh.take();
    fresh.measure_against({last, router.enforcement.revision().value(), ""});
    CHECK(refusal([&] { fresh.follow(*router.database, now()); }).starts_with("conflict: no relay"));
    router.database->query("DELETE FROM pool", {});
    fresh.follow(*router.database, now());
    CHECK(closed_space(router.kernel.read()) == closed_space(last));
    CHECK(fresh.guard().withheld());
}

TEST_CASE("enforcement: the guard measures what it would if most of a large set had not ended before") {
    CrowdedRouter router;
    committed(*router.database, [](Change& change) {
        assign(change, "c3", "100.64.128.0/17"_p, {}, false);
        remove_pool(change, "2001:db8:100::/40"_p);
    });
    router.grant("c3");
    const InForce last{router.enforcement.applied(), 1, ""};
    const Plan plan = make_plan(*router.database, router.kernel, {}, last, Guard({}), now());
    REQUIRE(plan.withheld);
    Enforcement again(router.kernel, {});
    again.replace_sets_from(500);
    again.take();
    again.measure_against(last);
    again.follow(*router.database, now());
    CHECK(router.ended_at_once() == 999);
    REQUIRE(again.guard().withheld());
    CHECK(text(again.guard().withheld()->widening) == "release 2001:db8:100::/40\nexempt 100.64.128.0/17\n");
    CHECK(again.guard().withheld()->digest == plan.withheld->digest);
    CHECK(router.exempt("100.64.3.7"));
    CHECK_FALSE(is_exempt(again.applied(), "100.64.128.0/17"_p, now()));
    CHECK(again.applied() == router.kernel.read());
}

TEST_CASE("enforcement: a plan shows what would be withheld, and changes nothing") {
    Guarded router;
    router.remove("100.64.0.0/16"_p);
    const InForce last{router.enforcement.applied(), *router.enforcement.revision(), ""};
    const Plan plan = make_plan(*router.database, router.kernel, {}, last, Guard({}), now());
    REQUIRE(plan.withheld);
    CHECK(plan.withheld->digest == digest_of(parse_widening("release 100.64.0.0/16\n")));
    CHECK(plan.changes.empty());
    CHECK_FALSE(router.enforcement.guard().withheld());
}
