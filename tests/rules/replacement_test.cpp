// Most of an exemption set goes at once. Small sets here: what is worth it is a parameter.

#include <catch2/catch.hpp>

#include "rules/element_changes.hpp"
#include "rules/fence_record.hpp"
#include "rules/kernel.hpp"
#include "rules/layout.hpp"
#include "rules/scenario.hpp"

using namespace smtpfence;

namespace {

Fence compiled(std::vector<Right> rights, const Fence& actual) {
    Policy policy = small_policy(test_time());
    policy.rights.assign(rights.begin(), rights.end());
    return compile(std::move(policy), small_border(), actual);
}

/// 100.64.0.`first` and the `count - 1` addresses behind it.
std::vector<Right> addresses(int first, int count, Instant until = never) {
    std::vector<Right> rights;
    for (int i = first; i < first + count; ++i)
        rights.push_back({Prefix::parse("100.64.0." + std::to_string(i)), until});
    return rights;
}

/// A fence with these IPv4 exemptions, and the other sets that small_border() and the like have.
Fence fence_of(const std::vector<Right>& rights) { return compiled(rights, compiled({}, {})); }

/// What the rules exempt: the elements of the sets that they look into.
std::set<Prefix> exempt(const Fence& fence) {
    std::set<Prefix> prefixes;
    for (const ExemptSet& set : exempt_sets_of(fence)) {
        const std::string name = exempt_set_name(set.family, set.length, set.capacity);
        const std::vector<Rule>& rules = fence.chains.at("outbound").rules;
        const bool read = std::any_of(rules.begin(), rules.end(), [&](const Rule& rule) {
            return rule.nft.find("@" + name + " ") != std::string::npos;
        });
        for (const auto& element : fence.sets.at(name).elements) {
            if (read) prefixes.insert(to_prefix(element.first, fence.sets.at(name).shape.key));
        }
    }
    return prefixes;
}

std::string plan_text(const Fence& actual, const Changes& changes) {
    std::string words;
    for (const Transaction& transaction : changes.transactions) {
        if (!words.empty()) words += "\n";
        for (const ChangeLine& line : describe(actual, {{transaction}}))
            words += line.verb + " " + line.object + " " + line.where + " " + line.what + "\n";
    }
    return words;
}

struct Led {
    Fence fence;
    size_t fillings = 0;
};

/// `actual` on its whole way to `desired`; `each` sees it after each transaction.
template <typename Each>
Led led(Fence actual, Fence desired, size_t least, const Each& each) {
    const auto go = [&](const Changes& changes) {
        for (const Transaction& transaction : changes.transactions) {
            perform(actual, transaction);
            each(actual, transaction);
        }
    };
    const Replacement first = replacement(actual, desired, test_time(), least);
    go(first.changes);
    adopt(first.successors, desired);
    const Fence whole = desired;
    const auto fillings = take_fillings(actual, desired, least);
    go(difference(actual, std::move(desired), test_time()));
    for (auto [name, elements] : fillings) {
        auto at = elements.begin();
        go({{{{AddElements{name, next_chunk(elements, at, test_time())}}}}});
    }
    CHECK(actual == whole);
    return {std::move(actual), fillings.size()};
}

/// How many of these take_fillings() takes for a router that holds `actual`.
size_t filled(const Fence& actual, const std::vector<Right>& rights, size_t least) {
    Fence desired = compiled(rights, actual);
    const Fence whole = desired;
    size_t taken = 0;
    for (const auto& [name, elements] : take_fillings(actual, desired, least)) {
        CHECK(desired.sets.at(name).elements.empty());
        CHECK(elements == whole.sets.at(name).elements);
        taken += elements.size();
    }
    return taken;
}

}  // namespace

TEST_CASE("replacement: a set with what stays, by the sooner end, takes the old one's place in one transaction") {
    const Instant now = test_time();
    std::vector<Right> before = addresses(0, 9), after = addresses(7, 6);
    before[7].until = now + Seconds{86400};  // may stay for longer now
    after[1].until = now + Seconds{3600};    // for shorter
    const Fence actual = fence_of(before), desired = compiled(after, actual);
    const Replacement result = replacement(actual, desired, now, 7);
    CHECK(plan_text(actual, result.changes) ==
          "add set exempt4_32_8192 \n"
          "\n"
          "add element exempt4_32_8192 100.64.0.7 until 2027-01-02T00:00:00Z\n"
          "add element exempt4_32_8192 100.64.0.8 until 2027-01-01T01:00:00Z\n"
          "\n"
          "replace rules inbound 10 rules\n"
          "replace rules outbound 11 rules\n"
          "delete set exempt4_32 \n");
    CHECK(result.successors == std::map<std::string, std::string>{{"exempt4_32", "exempt4_32_8192"}});
    const auto& gone = std::get<DeleteSet>(result.changes.transactions.back().operations.back()).ended;
    REQUIRE(gone.size() == 7);
    for (size_t i = 0; i < gone.size(); ++i) CHECK(gone[i] == to_key(before[i].prefix));
    led(actual, desired, 7, [](const Fence&, const Transaction&) {});
}

TEST_CASE("replacement: it is worth it where enough ends, and twice as much as stays") {
    const auto replaced = [](const std::vector<Right>& before, const std::vector<Right>& after, size_t least) {
        const Fence actual = fence_of(before);
        return !replacement(actual, compiled(after, actual), test_time(), least).changes.empty();
    };
    CHECK(replaced(addresses(0, 90), addresses(60, 60), 60));
    CHECK_FALSE(replaced(addresses(0, 90), addresses(60, 60), 61));
    CHECK_FALSE(replaced(addresses(0, 90), addresses(59, 60), 50));
    CHECK(replaced(addresses(0, 90), {}, 90));
    CHECK_FALSE(replaced({}, addresses(0, 90), 1));
    CHECK_FALSE(replaced(addresses(0, 90, test_time()), {}, 1));
    CHECK(replaced(addresses(0, 90), addresses(0, 90, test_time()), 90));
}

TEST_CASE("replacement: the next one goes back to the first capacity, and a set that has to grow grows") {
    Fence fence = fence_of(addresses(0, 20));
    const auto capacity = [&](std::vector<Right> rights) {
        fence = led(fence, compiled(std::move(rights), fence), 10, [](const Fence&, const Transaction&) {}).fence;
        return parse_exempt_set_name(exempt_set_of(fence, Prefix::parse("100.64.0.0")).value())->capacity;
    };
    CHECK(capacity(addresses(100, 20)) == 8192);
    CHECK(capacity(addresses(0, 20)) == 4096);
    std::vector<Right> many;
    for (const Right& right : many_rights(5000, test_time()).rights) {
        if (!Prefix::parse("100.64.0.0/24").contains(right.prefix)) many.push_back(right);
    }
    CHECK(capacity(many) == 16384);
}

TEST_CASE("replacement: nothing is replaced beside what somebody has to put right first") {
    const Fence actual = fence_of(addresses(0, 9));
    Fence meddled = actual;
    SECTION("rules") { meddled.chains.at("outbound").rules.pop_back(); }
    SECTION("a chain of somebody else's") { meddled.chains["guests"]; }
    SECTION("two sets of one kind") {
        meddled.sets["exempt4_32_8192"].shape = exempt_shape({Family::v4, 32, 8192});
        meddled.chains = chains_with(exempt_sets_of(meddled));
    }
    CHECK_FALSE(replacement(actual, compiled({}, actual), test_time(), 5).changes.empty());
    CHECK(replacement(meddled, compiled({}, actual), test_time(), 5).changes.empty());
}

TEST_CASE("replacement: a set in which a right goes that a wider one begins around is not replaced") {
    const Right wide{Prefix::parse("100.64.0.0/29"), never}, elsewhere{Prefix::parse("100.64.1.0/29"), never};
    const auto replaced = [](const std::vector<Right>& before, const std::vector<Right>& after) {
        const Fence actual = fence_of(before);
        return !replacement(actual, compiled(after, actual), test_time(), 9).changes.empty();
    };
    std::vector<Right> before = addresses(0, 9);
    CHECK_FALSE(replaced(before, {wide}));
    CHECK(replaced(before, {elsewhere}));
    before.insert(before.begin(), wide);
    CHECK(replaced(before, {wide}));  // it is there already
}

TEST_CASE("replacement: what an empty set should hold is added behind the rest where nobody waits for it") {
    const std::vector<Right> wanted = addresses(0, 9);
    Fence actual = fence_of(addresses(0, 1));
    Elements& elements = actual.sets.at("exempt4_32").elements;
    elements.clear();
    SECTION("it is") {
        CHECK(filled(actual, wanted, 9) == 9);
        actual = fence_of({{Prefix::parse("100.64.1.0/29"), never}, {Prefix::parse("2001:db8::/56"), never}});
        CHECK(filled(actual, wanted, 9) == 9);  // beside wider ones and another family's
    }
    SECTION("they are few") { CHECK(filled(actual, wanted, 10) == 0); }
    SECTION("it is not there") { CHECK(filled(actual, {{Prefix::parse("100.64.0.8/29"), never}}, 1) == 0); }
    SECTION("it isn't empty") {
        elements.emplace(to_key(wanted[0].prefix), Held{});
        CHECK(filled(actual, wanted, 1) == 0);
    }
    SECTION("the kernel may still count what ended in it") {
        actual.sets.at("exempt4_32").ended.emplace(to_key(wanted[0].prefix), Held{{}, test_time()});
        CHECK(filled(actual, wanted, 1) == 0);
    }
    SECTION("another set holds the same for now") {
        Set& larger = actual.sets["exempt4_32_8192"];
        larger.shape = exempt_shape({Family::v4, 32, 8192});
        actual.chains = chains_with(exempt_sets_of(actual));
        elements.emplace(to_key(wanted[0].prefix), Held{});
        CHECK(filled(actual, wanted, 1) == 0);
    }
    SECTION("the rules are not as they should be") {
        actual.chains.at("outbound").rules.pop_back();
        CHECK(filled(actual, wanted, 1) == 0);
    }
    SECTION("the sets are another layout's") {
        auto set = actual.sets.extract("exempt4_32");
        set.key() = "exempt4b_32";
        actual.sets.insert(std::move(set));
        CHECK(filled(actual, wanted, 1) == 0);
    }
    SECTION("a set is somebody else's, so that nobody knows what it holds") {
        const bool itself = GENERATE(true, false);
        const ExemptSet set{Family::v4, static_cast<uint8_t>(itself ? 32 : 29), first_capacity};
        Set& other = actual.sets[exempt_set_name(set.family, set.length, set.capacity)];
        other.shape = exempt_shape(set);
        other.shape.dynamic = true;
        actual.chains = chains_with(exempt_sets_of(actual));
        CHECK(filled(actual, wanted, 1) == 0);
    }
    SECTION("narrower exemptions go that it begins around") {
        actual = fence_of({{Prefix::parse("100.64.0.9"), never}});
        actual.sets["exempt4_29"].shape = exempt_shape({Family::v4, 29, first_capacity});
        actual.chains = chains_with(exempt_sets_of(actual));
        CHECK(filled(actual, {{Prefix::parse("100.64.0.8/29"), never}}, 1) == 0);
    }
}

TEST_CASE("replacement: a filling comes in transactions of 10000, without what is over") {
    Elements elements;
    for (uint32_t number = 0; number < 20'001; ++number) {
        Prefix::Address address{100, 64, static_cast<uint8_t>(number >> 8), static_cast<uint8_t>(number)};
        elements[to_key(Prefix(Family::v4, address, 32))].until = number % 20'000 == 0 ? test_time() : never;
    }
    auto at = elements.begin();
    CHECK(next_chunk(elements, at, test_time()).size() == 10'000);
    CHECK(next_chunk(elements, at, test_time()).size() == 9'999);
    CHECK(next_chunk(elements, at, test_time()).empty());
    CHECK(elements.size() == 19'999);
}

/// After each transaction: nobody is exempt who neither was nor will be, nobody who stays is closed, and as soon as
/// anybody is new nobody is left who ends: no address that is in none of the exemptions to come.
TEST_CASE("replacement: on the way between random fences nobody is opened or closed by accident") {
    std::mt19937 random(20261127);
    int replaced = 0;
    size_t fillings = 0;
    Fence fence = compile(random_policy(random, test_time()), small_border(), {});
    for (int round = 0; round < 300; ++round) {
        const Fence desired = compile(random_policy(random, test_time()), random_border(random), fence);
        const std::set<Prefix> before = exempt(fence), after = exempt(desired);
        std::set<Prefix> staying;
        std::set_intersection(before.begin(), before.end(), after.begin(), after.end(),
                              std::inserter(staying, staying.end()));
        FenceReader reader;
        each_record_line(fence, [&](std::string_view line) { reader.read(line); });
        bool narrowed = false;
        Led result = led(std::move(fence), desired, 1, [&](const Fence& now, const Transaction& transaction) {
            const std::set<Prefix> present = exempt(now);
            REQUIRE(std::includes(present.begin(), present.end(), staying.begin(), staying.end()));
            const bool all_known = std::all_of(present.begin(), present.end(), [&](const Prefix& prefix) {
                return before.contains(prefix) || after.contains(prefix);
            });
            REQUIRE(all_known);
            narrowed = narrowed || !std::includes(before.begin(), before.end(), present.begin(), present.end());
            const bool all_rightful = std::all_of(present.begin(), present.end(), [&](const Prefix& prefix) {
                return std::any_of(after.begin(), after.end(),
                                   [&](const Prefix& wide) { return wide.contains(prefix); });
            });
            if (narrowed) REQUIRE(all_rightful);
            for (const Operation& operation : transaction.operations) {
                const auto* gone = std::get_if<DeleteSet>(&operation);
                replaced += gone != nullptr && !gone->ended.empty();
            }
            reader.read(record_lines(transaction));
        });
        fence = std::move(result.fence);
        fillings += result.fillings;
        CHECK(same_record(std::move(reader).fence(test_time()), fence));
    }
    CHECK(replaced > 100);
    CHECK(fillings > 10);
}
