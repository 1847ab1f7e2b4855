#include "rules/widening.hpp"

#include <catch2/catch.hpp>

#include "rules/judgement.hpp"
#include "rules/layout.hpp"
#include "rules/scenario.hpp"
#include "subscribers/error.hpp"

using namespace smtpfence;

namespace {

Fence fence_of(const Policy& policy, const Border& border = {}) { return compile(policy, border, {}); }

Policy without_pool(Policy policy, const std::string& prefix) {
    std::erase_if(policy.pools, [&](const auto& pool) { return pool.first == Prefix::parse(prefix); });
    return policy;
}

Policy with_action(Policy policy, const std::string& prefix, Action action) {
    for (auto& pool : policy.pools) {
        if (pool.first == Prefix::parse(prefix)) pool.second = action;
    }
    return policy;
}

Policy with_right(Policy policy, const std::string& prefix) {
    policy.rights.push_back({Prefix::parse(prefix), never});
    std::sort(policy.rights.begin(), policy.rights.end(), [](auto& a, auto& b) { return a.prefix < b.prefix; });
    return policy;
}

std::string opened(const Policy& before, const Policy& after) {
    return text(widening(fence_of(before), fence_of(after), test_time()));
}

bool stops(const Fence& fence, const Prefix& line, const Prefix& to) {
    const Action verdict = judge(fence, lookup_in(fence), line, to).verdict;
    return verdict == Action::drop || verdict == Action::reject;
}

/// An address where random policies have theirs.
Prefix random_line(std::mt19937& random) {
    if (random() % 3 == 0) {
        return Prefix(
            Family::v6,
            {0x20, 1, 0x0d, 0xb8, 1, static_cast<uint8_t>(random() % 2), 0, static_cast<uint8_t>(random() % 256)}, 128);
    }
    return Prefix(Family::v4,
                  {100, static_cast<uint8_t>(64 + random() % 2), static_cast<uint8_t>(random() % 4),
                   static_cast<uint8_t>(random() % 256)},
                  32);
}

}  // namespace

TEST_CASE("widening: nothing opens when nothing changes or when it narrows") {
    const Policy policy = small_policy(test_time());
    CHECK(opened(policy, policy).empty());
    Policy narrower = with_action(policy, "100.66.0.0/24", Action::drop);
    narrower.rights.clear();
    narrower.relays.pop_back();
    narrower.pools.emplace_back(Prefix::parse("198.51.100.0/24"), Action::reject);
    CHECK(opened(policy, narrower).empty());
}

TEST_CASE("widening: a pool that goes or softens is released, without what stays closed around it") {
    const Policy policy = small_policy(test_time());
    CHECK(opened(policy, without_pool(policy, "100.65.0.0/24")) == "release 100.65.0.0/24\n");
    CHECK(opened(policy, with_action(policy, "100.65.0.0/24", Action::observe)) == "release 100.65.0.0/24\n");
    CHECK(opened(policy, with_action(policy, "100.65.0.0/24", Action::drop)).empty());
    CHECK(opened(policy, without_pool(policy, "2001:db8:100::/40")) == "release 2001:db8:100::/40\n");
    Policy nested = policy;
    nested.pools.emplace_back(Prefix::parse("100.64.0.0/18"), Action::pass);
    std::sort(nested.pools.begin(), nested.pools.end());
    CHECK(opened(policy, nested) == "release 100.64.0.0/18\n");
    CHECK(opened(policy, without_pool(policy, "100.66.0.0/24")).empty());
}

TEST_CASE("widening: new rights count where a pool closes, relays wherever they are") {
    const Policy policy = small_policy(test_time());
    CHECK(opened(policy, with_right(policy, "100.64.3.3")) == "exempt 100.64.3.3/32\n");
    CHECK(opened(policy, with_right(policy, "198.51.100.7")).empty());
    CHECK(opened(policy, with_right(policy, "100.66.0.7")).empty());
    Policy later = policy;
    later.rights[0].until += Seconds{86400};
    CHECK(opened(policy, later).empty());
    Policy wide = policy;
    wide.relays.push_back(Prefix::parse("100.64.32.0/19"));
    CHECK(opened(policy, wide) == "release 100.64.32.0/19\nrelay 100.64.32.0/19\n");
}

TEST_CASE("widening: a right that is over counts as gone") {
    Policy policy = small_policy(test_time());
    const Fence before = fence_of(policy);
    const Instant later = test_time() + Seconds{40 * 86400};
    policy.rights[0].until = never;
    CHECK(text(widening(before, fence_of(policy), later)).starts_with("exempt 100.64.7.7/32\n"));
}

TEST_CASE("widening: a right is none the less exempt while its set's successor is being filled") {
    const Fence after = fence_of(small_policy(test_time()));
    Fence before = after;
    const Elements& held = before.sets.at("exempt4_32").elements;
    REQUIRE(held.size() > 1);
    Set successor{exempt_shape({Family::v4, 32, 2 * first_capacity}), {*held.begin()}};
    const Prefix not_filled_yet = to_prefix(std::next(held.begin())->first, KeyKind::ipv4);
    before.sets[exempt_set_name(Family::v4, 32, 2 * first_capacity)] = std::move(successor);
    CHECK(widening(before, after, test_time()).empty());
    CHECK(is_exempt(before, not_filled_yet, test_time()));
}

TEST_CASE("widening: an interface that no pattern closes any more") {
    const Policy policy = small_policy(test_time());
    const Fence before = fence_of(policy, {{"bng0", "vlan1", "vlan2"}, Action::drop});
    CHECK(widening(before, fence_of(policy, {{"bng0", "vlan*"}, Action::reject}), test_time()).empty());
    CHECK(text(widening(before, fence_of(policy, {{"bng0"}, Action::drop}), test_time())) ==
          "interface \"vlan1\"\ninterface \"vlan2\"\n");
    CHECK(text(widening(before, fence_of(policy, {{"bng0", "vlan*"}, Action::observe}), test_time())) ==
          "interface \"bng0\"\ninterface \"vlan1\"\ninterface \"vlan2\"\n");
}

TEST_CASE("widening: an empty database keeps pools closed and relays reachable") {
    const Fence before = fence_of(small_policy(test_time()), small_border());
    Fence desired = fence_of({}, {});
    withhold(desired, before, widening(before, desired, test_time()));
    CHECK(closed_space(desired) == closed_space(before));
    CHECK(desired.sets.at("relay4") == before.sets.at("relay4"));
    CHECK(desired.sets.at("relay6") == before.sets.at("relay6"));
    CHECK(desired.sets.at("subscriber") == before.sets.at("subscriber"));
    CHECK(desired.sets.at("exempt4_32").elements.empty());
}

TEST_CASE("widening: what is withheld of a pool keeps its action, and the rest of the plan stays") {
    const Policy policy = small_policy(test_time());
    Policy after = with_right(without_pool(policy, "100.65.0.0/24"), "100.64.3.3");
    after.relays.push_back(Prefix::parse("192.0.2.0/24"));
    after.pools.emplace_back(Prefix::parse("198.51.100.0/24"), Action::drop);
    const Fence before = fence_of(policy);
    Fence desired = fence_of(after);
    withhold(desired, before, parse_widening("release 100.65.0.0/24\nrelay 192.0.2.0/24\n"));
    CHECK(desired.sets.at("pool4").elements.at(to_key(Prefix::parse("100.65.0.0/24"))).action == Action::reject);
    CHECK(desired.sets.at("pool4").elements.contains(to_key(Prefix::parse("198.51.100.0/24"))));
    CHECK(desired.sets.at("relay4") == before.sets.at("relay4"));
    CHECK(desired.sets.at("exempt4_32").elements.contains(to_key(Prefix::parse("100.64.3.3"))));
}

TEST_CASE("widening: a wide relay that is withheld leaves the narrow ones inside it") {
    const Policy policy = small_policy(test_time());
    Policy after = policy;
    after.relays = {Prefix::parse("203.0.113.0/24")};
    const Fence before = fence_of(policy);
    Fence desired = fence_of(after);
    withhold(desired, before, widening(before, desired, test_time()));
    CHECK(desired.sets.at("relay4") == before.sets.at("relay4"));
    CHECK(desired.sets.at("relay6").elements.empty());
}

TEST_CASE("widening: text and parsing are inverse, and parts add up") {
    const std::string lines =
        "release 100.64.0.0/10\nrelay 192.0.2.0/24\nexempt 100.64.3.7/32\nexempt 2001:db8::/56\n"
        "interface \"bng0\"\ninterface \"vlan*\"\n";
    const Widening all = parse_widening(lines);
    CHECK(text(all) == lines);
    const Widening part = parse_widening("release 100.64.0.0/11\nexempt 2001:db8::/56\n");
    CHECK(joined(without(all, part), part) == all);
    WideningReader reader;
    for (const std::string_view some :
         {"relay 192.0.2.0/24\ninterface \"vlan*\"\n", "", "exempt 2001:db8::/56\n",
          "exempt 100.64.3.7/32\nrelease 100.96.0.0/11\ninterface \"bng0\"\n", "release 100.64.0.0/11\n"})
        reader.read(some);
    CHECK(std::move(reader).widening() == all);
    CHECK(without(part, all).empty());
    CHECK(without(all, all).empty());
    CHECK_THROWS_AS(parse_widening("release everything\n"), Refused);
    CHECK_THROWS_AS(parse_widening("open 100.64.0.0/10\n"), Refused);
    CHECK_THROWS_AS(parse_widening("interface\n"), Refused);
}

// The oracle is the judgement of packets, which shares no code with widenings.
TEST_CASE("widening: withholding everything lets no packet pass that did not pass before") {
    std::mt19937 random(20261124);
    for (int round = 0; round < 200; ++round) {
        const Instant now = test_time();
        const Fence before = fence_of(random_policy(random, now), random_border(random));
        Fence desired = fence_of(random_policy(random, now), random_border(random));
        const Widening all = widening(before, desired, now);
        withhold(desired, before, all);
        CAPTURE(round, text(all));
        const Widening left = widening(before, desired, now);
        CHECK(left.empty());
        for (int packet = 0; packet < 50; ++packet) {
            const Prefix from = random_line(random), to = random_line(random);
            CAPTURE(from.text(), to.text());
            if (stops(before, from, to)) CHECK(stops(desired, from, to));
        }
    }
}
