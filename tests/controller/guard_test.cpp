#include "controller/guard.hpp"

#include <catch2/catch.hpp>
#include <set>

#include "rules/scenario.hpp"

using namespace smtpfence;

namespace {

const Instant beginning = test_time();

/// A /16 and a /40 that drop, a relay.
Policy isp() {
    Policy policy;
    policy.relays = {Prefix::parse("192.0.2.10")};
    policy.pools = {{Prefix::parse("100.64.0.0/16"), Action::drop}, {Prefix::parse("2001:db8::/40"), Action::drop}};
    return policy;
}

Policy with_pool(Policy policy, const std::string& prefix, Action action) {
    policy.pools.emplace_back(Prefix::parse(prefix), action);
    std::sort(policy.pools.begin(), policy.pools.end());
    return policy;
}

Policy with_rights(Policy policy, uint32_t count) {
    policy.rights = many_rights(count, beginning).rights;
    return policy;
}

struct GuardedRouter {
    Guard guard{GuardLimits{}};
    Fence in_force = compile(isp(), {}, {});

    /// One pass; what was held back, as text.
    std::string pass(const Policy& policy, Instant now, const Border& border = {}) {
        Fence desired = compile(policy, border, in_force);
        const Widening held = guard.judge(space_of(in_force), widening(in_force, desired, now), now);
        withhold(desired, in_force, held);
        in_force = std::move(desired);
        guard.passed(now);
        return text(held);
    }
    bool fenced(const std::string& prefix) const {
        return !common(closed_space(in_force), {range_of(Prefix::parse(prefix))}).empty();
    }
};

}  // namespace

TEST_CASE("guard: a digest tells openings apart, a hundred thousand of them too") {
    std::string many, other;
    for (int i = 0; i < 100'001; ++i)
        many += "exempt 10." + std::to_string(i >> 16) + "." + std::to_string(i >> 8 & 255) + "." +
                std::to_string(i & 255) + "/32\n";
    other = many;
    other.replace(other.rfind("/32"), 3, "/31");
    const std::vector<std::string> all{"",
                                       "exempt 10.0.0.0/24\n",
                                       "exempt 10.0.0.0/25\n",
                                       "relay 10.0.0.0/24\n",
                                       "release 10.0.0.0/24\n",
                                       "exempt a00::/24\n",
                                       "exempt 10.0.0.0/24\nexempt 10.0.0.0/25\n",
                                       "interface \"vlan*\"\n",
                                       many,
                                       other};
    std::set<std::string> digests;
    for (const std::string& lines : all) {
        digests.insert(digest_of(parse_widening(lines)));
        CHECK(digest_of(parse_widening(lines)) == digest_of(parse_widening(text(parse_widening(lines)))));
    }
    CHECK(digests.size() == all.size());
}

TEST_CASE("guard: an empty database opens nothing") {
    GuardedRouter router;
    CHECK(router.pass({}, beginning) == "release 100.64.0.0/16\nrelease 2001:db8::/40\n");
    CHECK(router.fenced("100.64.0.0/16"));
    REQUIRE(router.guard.withheld());
    CHECK(router.guard.withheld()->reason ==
          "it would release 100 % of the fenced IPv4 space at once (limit 10 %); "
          "it would release 100 % of the fenced IPv6 space at once (limit 10 %)");
}

TEST_CASE("guard: each family is measured alone") {
    GuardedRouter router;
    Policy policy = isp();
    policy.pools.erase(policy.pools.begin());
    CHECK(router.pass(policy, beginning) == "release 100.64.0.0/16\n");
    CHECK(router.fenced("2001:db8::/40"));
}

TEST_CASE("guard: a share up to the limit goes, drop turned to observe counts") {
    GuardedRouter router;
    CHECK(router.pass(with_pool(isp(), "100.64.0.0/20", Action::observe), beginning).empty());
    CHECK_FALSE(router.fenced("100.64.0.0/20"));
    GuardedRouter other;
    CHECK(other.pass(with_pool(isp(), "100.64.0.0/19", Action::observe), beginning) == "release 100.64.0.0/19\n");
}

TEST_CASE("guard: many small openings are one large one, for an hour") {
    GuardedRouter router;
    Policy policy = isp();
    CHECK(router.pass(policy = with_pool(policy, "100.64.0.0/20", Action::pass), beginning).empty());
    policy = with_pool(policy, "100.64.16.0/20", Action::pass);
    CHECK(router.pass(policy, beginning + Seconds{1800}) == "release 100.64.16.0/20\n");
    CHECK(router.guard.withheld().value().reason ==
          "it would release 13.33 % of the fenced IPv4 space within an hour (limit 10 %)");
    CHECK(router.pass(policy, beginning + Seconds{3599}) == "release 100.64.16.0/20\n");
    CHECK(router.pass(policy, beginning + Seconds{3600}).empty());
    CHECK_FALSE(router.guard.withheld());
}

TEST_CASE("guard: half of all customers exempted at once are held back, those of a day's work are not") {
    GuardedRouter router;
    CHECK(router.pass(with_rights(isp(), 3000), beginning).empty());
    const std::string held = router.pass(with_rights(isp(), 8000), beginning + Seconds{7200});
    CHECK(std::count(held.begin(), held.end(), '\n') == 5000);
    CHECK(router.in_force.sets.at("exempt4_32_16384").elements.size() == 3000);
}

TEST_CASE("guard: fewer than 1,024 addresses never trip it") {
    GuardedRouter router;
    router.in_force = compile(
        with_pool({.revision = 0, .relays = isp().relays, .pools = {}, .rights = {}}, "100.64.0.0/23", Action::drop),
        {}, {});
    Policy policy;
    policy.relays = isp().relays;
    CHECK(router.pass(policy, beginning).empty());
}

TEST_CASE("guard: beside what is held, small openings and all narrowing go on") {
    GuardedRouter router;
    CHECK_FALSE(router.pass({}, beginning).empty());
    Policy policy;  // still without pools and relays
    policy.rights = {{Prefix::parse("100.64.3.7"), never}};
    policy.pools = {{Prefix::parse("198.51.100.0/24"), Action::drop}};
    const Instant first = router.guard.withheld()->since;
    CHECK(router.pass(policy, beginning + Seconds{60}) == "release 100.64.0.0/16\nrelease 2001:db8::/40\n");
    CHECK(router.in_force.sets.at("exempt4_32").elements.size() == 1);
    CHECK(router.fenced("198.51.100.0/24"));
    CHECK(router.guard.withheld()->since == first);
    policy.rights.clear();
    router.pass(policy, beginning + Seconds{120});
    CHECK(router.in_force.sets.at("exempt4_32").elements.empty());
}

TEST_CASE("guard: with the digest, exactly what is withheld goes, and nothing that comes next") {
    GuardedRouter router;
    Policy less = isp();
    less.pools.erase(less.pools.begin());
    router.pass(less, beginning);
    const std::string digest = router.guard.withheld()->digest;
    CHECK(digest == digest_of(parse_widening("release 100.64.0.0/16\n")));
    CHECK_FALSE(router.guard.confirm(digest_of(parse_widening("release 100.64.0.0/17\n")), beginning));
    REQUIRE(router.guard.confirm(digest, beginning + Seconds{60}));
    CHECK(router.pass({}, beginning + Seconds{60}) == "release 100.64.0.0/16\nrelease 2001:db8::/40\n");
    CHECK(router.pass(less, beginning + Seconds{61}).empty());
    CHECK_FALSE(router.fenced("100.64.0.0/16"));
    CHECK(router.pass({}, beginning + Seconds{62}) == "release 2001:db8::/40\n");
}

TEST_CASE("guard: a confirmation covers a part of what it named, and ends after an hour") {
    GuardedRouter router;
    router.pass({}, beginning);
    const std::string digest = router.guard.withheld()->digest;
    Policy half = isp();
    half.pools.erase(half.pools.begin());
    CHECK_FALSE(router.pass(half, beginning + Seconds{60}).empty());
    CHECK(router.guard.confirm(digest, beginning + Seconds{120}));
    CHECK(router.pass(half, beginning + Seconds{3719}).empty());
    GuardedRouter late;
    late.pass({}, beginning);
    CHECK(late.guard.confirm(digest, beginning));
    CHECK_FALSE(late.pass(half, beginning + Seconds{3600}).empty());
    CHECK_FALSE(late.guard.confirm(digest, beginning + Seconds{7200}));
}

TEST_CASE("guard: many relays at once are held back, however narrow they are") {
    const auto with_relays = [](int count, int length) {
        Policy policy = isp();
        for (int number = 0; number < count; ++number) {
            Prefix::Address address{198, 51, static_cast<uint8_t>(number / 256), static_cast<uint8_t>(number % 256)};
            if (length == 24) address = {198, static_cast<uint8_t>(number / 256), static_cast<uint8_t>(number % 256)};
            policy.relays.emplace_back(Family::v4, address, static_cast<uint8_t>(length));
        }
        std::sort(policy.relays.begin(), policy.relays.end());
        return policy;
    };
    GuardedRouter router;
    CHECK(router.pass(with_relays(4, 24), beginning).empty());
    const std::string held = router.pass(with_relays(4 + 5, 24), beginning);
    CHECK(std::count(held.begin(), held.end(), '\n') == 5);
    CHECK(router.guard.withheld().value().reason == "it would add 5 IPv4 relays at once");
    CHECK(router.in_force.sets.at("relay4").elements.size() == 1 + 4);
    GuardedRouter other;
    CHECK(other.pass(with_relays(1024, 32), beginning).empty());
    GuardedRouter third;
    CHECK_FALSE(third.pass(with_relays(1025, 32), beginning).empty());
}

TEST_CASE("guard: openings by a clock that was set back since count from now on") {
    GuardedRouter router;
    router.guard = Guard(GuardLimits{}, {{beginning + Seconds{86400}, Opening::Kind::release, Family::v4, 6000}});
    Policy policy = isp();
    CHECK_FALSE(router.pass(policy = with_pool(policy, "100.64.0.0/20", Action::pass), beginning).empty());
    CHECK(router.pass(policy, beginning + Seconds{3600}).empty());
}

TEST_CASE("guard: of what changes all the time, it remembers the latest versions") {
    GuardedRouter router;
    Widening asked = parse_widening("release 100.64.0.0/16\n");
    const FencedSpace space = space_of(router.in_force);
    const auto digest_after = [&](uint32_t relays) {
        while (asked.relays.size() < relays) {
            Prefix::Address address{};
            const auto number = static_cast<uint32_t>(asked.relays.size());
            address[0] = 10;
            address[1] = static_cast<uint8_t>(number >> 8);
            address[2] = static_cast<uint8_t>(number);
            asked.relays.emplace_back(Family::v4, address, uint8_t{23});
        }
        router.guard.judge(space, asked, beginning);
        return router.guard.withheld().value().digest;
    };
    const std::string first = digest_after(19'900), second = digest_after(19'901);
    for (uint32_t more = 2; more < 52; ++more) digest_after(19'900 + more);
    CHECK_FALSE(router.guard.confirm(first, beginning));
    CHECK(router.guard.confirm(second, beginning));
}

TEST_CASE("guard: a bare confirmation covers what is withheld then") {
    GuardedRouter router;
    CHECK_FALSE(router.guard.confirm("", beginning));
    router.pass({}, beginning);
    CHECK(router.guard.confirm("", beginning));
    CHECK(router.pass({}, beginning).empty());
    CHECK_FALSE(router.fenced("100.64.0.0/16"));
}

TEST_CASE("guard: sums begin anew with a confirmation") {
    GuardedRouter router;
    Policy policy = isp();
    router.pass(policy = with_pool(policy, "100.64.0.0/20", Action::pass), beginning);
    router.pass(policy = with_pool(policy, "100.64.16.0/20", Action::pass), beginning);
    CHECK(router.guard.confirm("", beginning));
    CHECK(router.pass(policy, beginning).empty());
    CHECK(router.guard.openings().empty());
    CHECK(router.pass(with_pool(policy, "100.64.32.0/21", Action::pass), beginning).empty());
}

TEST_CASE("guard: wide relays and lost interfaces are held whatever is fenced") {
    GuardedRouter router;
    Policy policy = isp();
    policy.relays.push_back(Prefix::parse("198.51.0.0/16"));
    policy.relays.push_back(Prefix::parse("203.0.113.0/24"));
    std::sort(policy.relays.begin(), policy.relays.end());
    CHECK(router.pass(policy, beginning, {{"bng0"}, Action::drop}) == "relay 198.51.0.0/16\n");
    CHECK(router.in_force.sets.at("relay4").elements.size() == 2);
    CHECK(router.pass(isp(), beginning) == "interface \"bng0\"\n");
    CHECK(router.in_force.sets.at("subscriber").elements.size() == 1);
    CHECK(summary(parse_widening("relay 198.51.0.0/16\ninterface \"bng0\"\n")) ==
          "relay 198.51.0.0/16, interface \"bng0\"");
}

TEST_CASE("guard: rights that come one after the other are summed") {
    GuardedRouter router;
    for (uint32_t count = 1000; count <= 3000; count += 1000)
        CHECK(router.pass(with_rights(isp(), count), beginning).empty());
    CHECK_FALSE(router.pass(with_rights(isp(), 4000), beginning).empty());
    CHECK(router.guard.openings().size() == 1);
    CHECK(router.pass(with_rights(isp(), 4000), beginning + Seconds{3700}).empty());
}
