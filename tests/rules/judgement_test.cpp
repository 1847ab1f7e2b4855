#include "rules/judgement.hpp"

#include <catch2/catch.hpp>

#include "rules/scenario.hpp"

using namespace smtpfence;

namespace {

std::string judged(const Fence& fence, const char* line, const char* to = nullptr) {
    const Judgement judgement =
        judge(fence, lookup_in(fence), Prefix::parse(line), to ? std::optional(Prefix::parse(to)) : std::nullopt);
    return std::string(word(judgement.verdict)) + " | " + judgement.rule + " | " + judgement.element +
           (judgement.exempt ? " | exempt" : "") +
           (judgement.until ? " until " + format_instant(*judgement.until) : "");
}

/// The same question asked of the policy's own words.
std::pair<Action, bool> expected(const Policy& policy, const Prefix& line, const Prefix& to) {
    for (const Prefix& relay : policy.relays) {
        if (relay.contains(line) || relay.contains(to)) return {Action::pass, false};
    }
    for (const Right& right : policy.rights) {
        if (right.prefix.contains(line)) return {Action::pass, true};
    }
    std::pair<Action, bool> result{Action::pass, false};
    int length = -1;
    for (const auto& [prefix, action] : policy.pools) {
        if (prefix.contains(line) && prefix.length() > length) {
            length = prefix.length();
            result.first = action;
        }
    }
    return result;
}

}  // namespace

TEST_CASE("judge: names the rule and the element that decide") {
    const Fence fence = compile(small_policy(test_time()), small_border(), {});
    CHECK(judged(fence, "100.64.3.7") == "drop | ip saddr vmap @pool4 | 100.64.0.0/17 in pool4");
    CHECK(judged(fence, "100.65.0.9") == "reject | ip saddr vmap @pool4 | 100.65.0.0/24 in pool4");
    CHECK(judged(fence, "100.66.0.9") == "observe | ip saddr vmap @pool4 | 100.66.0.0/24 in pool4");
    CHECK(judged(fence, "100.64.128.1") == "pass | ip saddr vmap @pool4 | 100.64.128.0/24 in pool4");
    CHECK(judged(fence, "100.64.7.7") ==
          "pass | ip saddr @exempt4_32 return | 100.64.7.7 in exempt4_32 | exempt until 2027-01-31T00:00:00Z");
    CHECK(judged(fence, "100.64.9.200") ==
          "pass | ip saddr & 255.255.255.0 == @exempt4_24 return | 100.64.9.0/24 in exempt4_24 | exempt until "
          "2027-01-02T01:01:01Z");
    CHECK(judged(fence, "2001:db8:100:7ff::1") ==
          "pass | ip6 saddr & ffff:ffff:ffff:ff00:: == @exempt6_56 return | 2001:db8:100:700::/56 in exempt6_56 | "
          "exempt");
    CHECK(judged(fence, "100.64.3.7", "203.0.113.40") == "pass | ip daddr @relay4 accept | 203.0.113.32/28 in relay4");
    CHECK(judged(fence, "203.0.113.10") == "pass | ip saddr @relay4 accept | 203.0.113.10 in relay4");
    CHECK(judged(fence, "192.0.2.1") == "pass | no rule: not fenced | ");
    CHECK(judged(fence, "2001:db8:100::1") == "drop | ip6 saddr vmap @pool6 | 2001:db8:100::/40 in pool6");
}

TEST_CASE("judge: equals the policy's own words on random policies") {
    std::mt19937 random(11);
    int exempt = 0, fenced = 0;
    for (int round = 0; round < 300; ++round) {
        const Policy policy = random_policy(random, test_time());
        const Fence fence = compile(policy, {}, {});
        for (int packet = 0; packet < 60; ++packet) {
            const auto address = [&] {
                return Prefix(Family::v4,
                              {100, static_cast<uint8_t>(64 + random() % 2), static_cast<uint8_t>(random() % 4),
                               static_cast<uint8_t>(random())},
                              32);
            };
            const Prefix line = address(), to = address();
            const Judgement judgement = judge(fence, lookup_in(fence), line, to);
            REQUIRE(std::pair(judgement.verdict, judgement.exempt) == expected(policy, line, to));
            exempt += judgement.exempt;
            fenced += judgement.verdict == Action::drop;
        }
    }
    CHECK(exempt > 100);
    CHECK(fenced > 100);
}
