#include "rules/difference.hpp"

#include <catch2/catch.hpp>

#include "rules/kernel.hpp"
#include "rules/layout.hpp"
#include "rules/scenario.hpp"

using namespace smtpfence;

namespace {

Fence performed(Fence fence, const Changes& changes) {
    for (const Transaction& transaction : changes.transactions) perform(fence, transaction);
    return fence;
}

/// The plan as text, a blank line between transactions.
std::string plan_text(const Fence& actual, const Changes& changes) {
    std::string words;
    for (const Transaction& transaction : changes.transactions) {
        if (!words.empty()) words += "\n";
        for (const ChangeLine& line : describe(actual, {{transaction}})) {
            words +=
                line.verb + " " + line.object + " " + line.where + (line.what.empty() ? "" : " ") + line.what + "\n";
        }
    }
    return words;
}

PolicyDelta delta_between(const Policy& from, const Policy& to) {
    PolicyDelta delta;
    delta.revision = to.revision;
    if (from.relays != to.relays) delta.relays = to.relays;
    if (from.pools != to.pools) delta.pools = to.pools;
    std::map<Prefix, std::optional<Instant>> rights;
    for (const Right& right : from.rights) rights[right.prefix] = std::nullopt;
    for (const Right& right : to.rights) rights[right.prefix] = right.until;
    delta.rights.assign(rights.begin(), rights.end());
    return delta;
}

}  // namespace

TEST_CASE("difference: an element may stay that has the action and nearly the end that is asked for") {
    const Instant time = test_time();
    const auto ending = [&](int seconds) { return Held{{}, time + Seconds{seconds}}; };
    const Held forever{{}, never};
    CHECK(may_stay(forever, forever, time));
    CHECK(may_stay(ending(100'000), ending(100'000), time));
    CHECK(may_stay(ending(99'900), ending(100'000), time));
    CHECK_FALSE(may_stay(ending(99'899), ending(100'000), time));
    CHECK(may_stay(ending(100'002), ending(100'000), time));
    CHECK_FALSE(may_stay(ending(100'003), ending(100'000), time));
    CHECK_FALSE(may_stay(forever, ending(100'000), time));
    CHECK_FALSE(may_stay(ending(100'000), forever, time));
    CHECK_FALSE(may_stay(ending(0), ending(0), time));
    CHECK_FALSE(may_stay({Action::drop, never}, {Action::reject, never}, time));
}

TEST_CASE("difference: equal fences need nothing") {
    const Fence fence = compile(small_policy(test_time()), small_border(), {});
    CHECK(difference(fence, fence, test_time()).empty());
}

TEST_CASE("difference: a new table gets chains and sets, then elements, then rules") {
    const Instant now = test_time();
    const Fence desired = compile(small_policy(now), small_border(), {});
    const Changes changes = difference({}, desired, now);
    CHECK(performed({}, changes) == desired);
    bool rules_seen = false;
    for (const Transaction& transaction : changes.transactions) {
        CHECK_FALSE(rules_seen);
        for (const Operation& operation : transaction.operations) {
            if (std::holds_alternative<ReplaceRules>(operation)) rules_seen = true;
        }
    }
    CHECK(rules_seen);
}

TEST_CASE("difference: what ends goes before what begins, each in its transaction") {
    const Instant now = test_time();
    Policy policy = small_policy(now);
    const Fence before = compile(policy, small_border(), {});
    policy.rights = {{Prefix::parse("100.64.1.1"), never},
                     {Prefix::parse("100.64.7.7"), now + Seconds{86400}},
                     {Prefix::parse("100.64.9.0/24"), now + Seconds{90062}},
                     {Prefix::parse("2001:db8:100:700::/56"), now + Seconds{7200}},
                     {Prefix::parse("2001:db8:101::/64"), never}};
    policy.relays.erase(policy.relays.begin());
    policy.relays.push_back(Prefix::parse("203.0.113.99"));
    policy.pools[2].second = Action::drop;
    const Fence after = compile(policy, small_border(), before);
    CHECK(plan_text(before, difference(before, after, now)) ==
          "delete element exempt4_32 100.64.7.8\n"
          "\n"
          "delete element exempt4_32 100.64.7.7 until 2027-01-31T00:00:00Z\n"
          "add element exempt4_32 100.64.7.7 until 2027-01-02T00:00:00Z\n"
          "\n"
          "delete element exempt6_56 2001:db8:100:700::/56\n"
          "add element exempt6_56 2001:db8:100:700::/56 until 2027-01-01T02:00:00Z\n"
          "\n"
          "delete element relay4 203.0.113.10\n"
          "delete element pool4 100.65.0.0/24 reject\n"
          "add element pool4 100.65.0.0/24 drop\n"
          "add element relay4 203.0.113.99\n"
          "\n"
          "add element exempt4_32 100.64.1.1\n"
          "\n"
          "delete element exempt6_64 2001:db8:101::/64 until 2027-01-01T01:00:00Z\n"
          "add element exempt6_64 2001:db8:101::/64\n");
    CHECK(performed(before, difference(before, after, now)).sets.at("exempt4_32") == after.sets.at("exempt4_32"));
}

TEST_CASE("difference: what a wider exemption takes over goes last, behind the rule that looks the wider one up") {
    const Instant now = test_time();
    Policy policy = small_policy(now);
    policy.rights = {{Prefix::parse("100.64.7.7"), never},
                     {Prefix::parse("100.64.7.9"), never},
                     {Prefix::parse("2001:db8:100:700::/56"), never}};
    const Fence before = compile(policy, small_border(), {});
    policy.rights = {{Prefix::parse("100.64.7.8/30"), now + Seconds{60}}, {Prefix::parse("2001:db8:100::/48"), never}};
    const Fence after = compile(policy, small_border(), before);
    Fence fence = before;
    const auto exempt = [&](const char* address) {
        const Prefix prefix = Prefix::parse(address);
        return std::any_of(fence.sets.begin(), fence.sets.end(), [&](const auto& entry) {
            const auto set = parse_exempt_set_name(entry.first);
            const bool looked_up = fence.chains.at("outbound").rules.size() ==
                                   chains_with(exempt_sets_of(fence)).at("outbound").rules.size();
            return set && set->family == prefix.family() && (looked_up || before.sets.contains(entry.first)) &&
                   entry.second.elements.contains(to_key(prefix.widened(set->length)));
        });
    };
    size_t steps = 0, closed = 0;
    for (const Transaction& transaction : difference(before, after, now).transactions) {
        perform(fence, transaction);
        ++steps;
        CHECK(exempt("100.64.7.9"));
        CHECK(exempt("2001:db8:100:701::1"));
        closed += exempt("100.64.7.7") ? 0 : 1;
    }
    CHECK(fence == after);
    CHECK(closed == steps);  // nothing takes its place: it went first

    const Fence wide = compile(policy, small_border(), before);
    policy.rights = {{Prefix::parse("100.64.7.8/30"), never}, {Prefix::parse("100.64.7.12"), never}};
    const Fence both = compile(policy, small_border(), wide);
    PolicyDelta delta;
    delta.rights = {{Prefix::parse("100.64.7.12/30"), never}, {Prefix::parse("100.64.7.12"), std::nullopt}};
    CHECK(plan_text(both, difference(both, delta, now).value()) ==
          "add element exempt4_30 100.64.7.12/30\n"
          "\n"
          "delete element exempt4_32 100.64.7.12\n");
}

TEST_CASE("difference: deadlines within 2 s are equal, and within 0.1 % of what remains when the kernel ends first") {
    const Instant now = test_time();
    const auto changed = [&](Seconds remaining, Seconds moved) {
        Policy policy;
        policy.rights = {{Prefix::parse("100.64.0.1"), now + remaining}};
        const Fence before = compile(policy, {}, {});
        policy.rights[0].until += moved;
        return !difference(before, compile(policy, {}, before), now).empty();
    };
    CHECK_FALSE(changed(Seconds{100}, Seconds{2}));
    CHECK_FALSE(changed(Seconds{100}, Seconds{-2}));
    CHECK(changed(Seconds{100}, Seconds{3}));
    CHECK(changed(Seconds{100}, Seconds{-3}));
    CHECK_FALSE(changed(Seconds{1'000'000}, Seconds{1000}));
    CHECK(changed(Seconds{1'000'000}, Seconds{1002}));
    CHECK(changed(Seconds{1'000'000}, Seconds{-3}));
}

TEST_CASE("difference: elements that are over count as gone on either side") {
    const Instant now = test_time();
    Policy policy;
    const Fence none = compile(policy, {}, {});
    policy.rights = {{Prefix::parse("100.64.0.1"), now}};
    const Fence over = compile(policy, {}, {});
    CHECK(difference(over, none, now).empty());
    CHECK(difference(none, over, now).empty());
    policy.rights[0].until = never;
    const Fence held = compile(policy, {}, {});
    CHECK(plan_text(held, difference(held, over, now)) == "delete element exempt4_32 100.64.0.1\n");
    // The kernel may not have let go of it yet, and older ones keep the old end of what is added again.
    CHECK(plan_text(over, difference(over, held, now)) ==
          "delete element exempt4_32 100.64.0.1 until 2027-01-01T00:00:00Z\nadd element exempt4_32 100.64.0.1\n");
}

TEST_CASE("difference: an exemption set that outgrows its capacity is replaced by one beside it") {
    const Instant now = test_time();
    Policy policy = many_rights(3000, now);
    const Fence before = compile(policy, {}, compile({}, {}, {}));
    policy = many_rights(4000, now);
    policy.rights.erase(policy.rights.begin());
    const Fence after = compile(policy, {}, before);
    const Changes changes = difference(before, after, now);
    const std::string plan = plan_text(before, changes);
    const size_t added = plan.find("add set exempt4_32_8192"),
                 revoked = plan.find("delete element exempt4_32 100.64.0.0"),
                 filled = plan.find("add element exempt4_32_8192"), switched = plan.find("replace rules"),
                 removed = plan.find("delete set exempt4_32\n");
    CHECK(revoked < added);
    CHECK(added < filled);
    CHECK(filled < switched);
    CHECK(switched < removed);
    CHECK(removed != std::string::npos);
    CHECK(plan.find("replace rules border") == std::string::npos);
    CHECK(plan.find("replace rules consumer") == std::string::npos);
    CHECK(performed(before, changes) == after);
}

TEST_CASE("difference: another layout goes in beside the old one, whose rights end meanwhile") {
    const Instant now = test_time();
    Policy policy = many_rights(3000, now);
    Fence before = compile(policy, {}, compile({}, {}, {}));
    const auto rename = [](auto& objects, const char* name, const char* earlier) {
        auto object = objects.extract(name);
        object.key() = earlier;
        objects.insert(std::move(object));
    };
    rename(before.sets, "exempt4_32", "exempt4earlier_32");
    rename(before.chains, "inbound", "inboundearlier");
    before.chains["outbound"].rules.pop_back();
    policy.rights.erase(policy.rights.begin());
    const Fence after = compile(policy, {}, before);
    const Changes changes = difference(before, after, now);
    const std::string plan = plan_text(before, changes);
    const size_t added = plan.find("add set exempt4_32\n"),
                 revoked = plan.find("delete element exempt4earlier_32 100.64.0.0"),
                 filled = plan.find("add element exempt4_32 100.64.0.1"), switched = plan.find("replace rules"),
                 removed = plan.find("delete set exempt4earlier_32\n");
    CHECK(revoked < added);
    CHECK(added < filled);
    CHECK(filled < switched);
    CHECK(switched < removed);
    CHECK(plan.find("delete chain inboundearlier") != std::string::npos);
    CHECK(performed(before, changes) == after);
}

TEST_CASE("difference: many elements come in transactions of at most 10,000") {
    const Instant now = test_time();
    const Changes changes = difference(compile({}, {}, {}), compile(many_rights(25'000, now), {}, {}), now);
    size_t elements = 0;
    for (const Transaction& transaction : changes.transactions) {
        for (const Operation& operation : transaction.operations) {
            if (const auto* add = std::get_if<AddElements>(&operation); add && add->set.starts_with("exempt")) {
                CHECK(add->elements.size() <= 10'000);
                elements += add->elements.size();
            }
        }
    }
    CHECK(elements == 25'000);
}

TEST_CASE("difference: what somebody else put into the table is removed") {
    const Instant now = test_time();
    const Fence ours = compile(small_policy(now), small_border(), {});
    Fence meddled = ours;
    meddled.sets["guests"].shape.size = 7;
    meddled.chains["guests"].rules = {ours.chains.at("attempt").rules};
    meddled.chains["border"].rules.insert(meddled.chains["border"].rules.begin(), ours.chains.at("attempt").rules[0]);
    meddled.sets["pool4"].elements.begin()->second.action = std::nullopt;
    const Changes changes = difference(meddled, ours, now);
    CHECK(performed(meddled, changes) == ours);
    CHECK(plan_text(meddled, changes) ==
          "delete element pool4 100.64.0.0/17\n"
          "add element pool4 100.64.0.0/17 drop\n"
          "\n"
          "replace rules border 6 rules\n"
          "\n"
          "replace rules guests 0 rules\n"
          "delete set guests\n"
          "delete chain guests\n");
}

TEST_CASE("difference: an object of our name but of another kind is made anew in one transaction") {
    const Instant now = test_time();
    const Fence ours = compile(small_policy(now), small_border(), {});
    Fence meddled = ours;
    SECTION("a set") { meddled.sets["relay4"].shape.interval = false; }
    SECTION("a chain") { meddled.chains["inbound"].hook = Hook{}; }
    const Changes changes = difference(meddled, ours, now);
    CHECK(changes.transactions.size() == 1);
    CHECK(performed(meddled, changes) == ours);
}

TEST_CASE("difference: another hook moves the base chain alone") {
    const Instant now = test_time();
    const Fence ours = compile(small_policy(now), small_border(), {});
    Fence meddled = ours;
    meddled.chains["border"].hook->priority = 5;
    const Changes changes = difference(meddled, ours, now);
    CHECK(plan_text(meddled, changes) ==
          "replace rules border 0 rules\n"
          "delete chain border\n"
          "add chain border\n"
          "replace rules border 6 rules\n");
    CHECK(performed(meddled, changes) == ours);
}

TEST_CASE("difference: a delta gives the same fence as everything compared") {
    const Instant now = test_time();
    std::mt19937 random(42);
    int by_delta = 0;
    Policy policy = random_policy(random, now);
    Fence fence = compile(policy, small_border(), {});
    for (int round = 0; round < 200; ++round) {
        const Policy next = random_policy(random, now);
        const Fence desired = compile(next, small_border(), fence);
        const auto changes = difference(fence, delta_between(policy, next), now);
        if (changes) {
            ++by_delta;
            CHECK(performed(fence, *changes) == desired);
            CHECK(difference(performed(fence, *changes), desired, now).empty());
        } else {
            CHECK(desired.sets.size() > fence.sets.size());
        }
        fence = desired;
        policy = next;
    }
    CHECK(by_delta > 100);
}

TEST_CASE("difference: a delta asks for everything when a set is missing or too full") {
    const Instant now = test_time();
    const Fence fence = compile(many_rights(3276, now), {}, compile({}, {}, {}));
    PolicyDelta delta;
    delta.rights = {{Prefix::parse("198.51.100.1"), never}};
    CHECK_FALSE(difference(fence, delta, now));
    delta.rights = {{Prefix::parse("100.64.0.1"), std::nullopt}, {Prefix::parse("198.51.100.1"), never}};
    CHECK(difference(fence, delta, now));
    delta.rights = {{Prefix::parse("198.51.100.0/25"), never}};
    CHECK_FALSE(difference(fence, delta, now));
    delta.rights = {{Prefix::parse("198.51.100.0/25"), std::nullopt}};
    REQUIRE(difference(fence, delta, now));
    CHECK(difference(fence, delta, now)->empty());
}

TEST_CASE("difference: random states lead into each other, and then nothing is left to do") {
    const Instant now = test_time();
    std::mt19937 random(7);
    Fence fence;
    for (int round = 0; round < 200; ++round) {
        const Fence desired = compile(random_policy(random, now), random_border(random), fence);
        const Changes changes = difference(fence, desired, now);
        fence = performed(std::move(fence), changes);
        REQUIRE(difference(fence, desired, now).empty());
    }
}

TEST_CASE("perform: refuses as the kernel does") {
    Fence fence = compile({}, {}, {});
    const auto code = [&](Operation operation) {
        try {
            perform(fence, {{std::move(operation)}});
        } catch (const KernelError& error) {
            return error.code;
        }
        return 0;
    };
    const Key line = to_key(Prefix::parse("100.64.0.1"));
    CHECK(code(AddElements{"nowhere", {{line, {}}}}) == ENOENT);
    CHECK(code(DeleteSet{"relay4"}) == EBUSY);
    CHECK(code(DeleteChain{"inbound"}) == EBUSY);
    CHECK(code(DeleteChain{"nowhere"}) == ENOENT);
    CHECK(code(AddElements{"pool4", {{to_key(Prefix::parse("100.64.0.0/16")), {Action::drop, never}}}}) == 0);
    CHECK(code(AddElements{"pool4", {{to_key(Prefix::parse("100.64.0.0/17")), {Action::drop, never}}}}) == EEXIST);
    CHECK(code(AddElements{"pool4", {{to_key(Prefix::parse("100.0.0.0/8")), {Action::drop, never}}}}) == EEXIST);
    CHECK(code(AddElements{"pool4", {{to_key(Prefix::parse("100.64.0.0/16")), {Action::pass, never}}}}) == EEXIST);
    CHECK(code(ReplaceRules{"nowhere", {}}) == ENOENT);
    CHECK(code(DeleteElements{"exempt4_32", {{line, {}}}}) == 0);
    fence.sets["exempt4_32"].shape.size = 1;
    CHECK(code(AddElements{"exempt4_32", {{line, {}}, {to_key(Prefix::parse("100.64.0.2")), {}}}}) == ENFILE);
    fence.sets.erase("relay6");
    CHECK(code(ReplaceRules{"inbound", fence.chains.at("inbound").rules}) == ENOENT);
}
