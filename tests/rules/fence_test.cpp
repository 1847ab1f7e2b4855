#include "rules/fence.hpp"

#include <catch2/catch.hpp>

#include "rules/layout.hpp"
#include "rules/scenario.hpp"
#include "subscribers/error.hpp"

using namespace smtpfence;

namespace {

std::string flat_text(const std::vector<std::pair<Prefix, Action>>& pools) {
    std::string words;
    for (const auto& [prefix, action] : flatten(pools)) words += prefix.text() + " " + word(action) + "\n";
    return words;
}

std::string refusal(const std::string& pattern) {
    try {
        interface_key(pattern);
    } catch (const Refused& refused) {
        CHECK(refused.reason == Refusal::invalid);
        return refused.what();
    }
    return "accepted";
}

/// The longest pool that contains the address decides.
std::optional<Action> decided(const std::vector<std::pair<Prefix, Action>>& pools, const Prefix& address) {
    std::optional<Action> action;
    int length = -1;
    for (const auto& [prefix, its_action] : pools) {
        if (prefix.contains(address) && prefix.length() > length) {
            length = prefix.length();
            action = its_action;
        }
    }
    return action;
}

}  // namespace

TEST_CASE("flatten: the longest pool decides, and pieces of equal action stay apart") {
    CHECK(flat_text({{Prefix::parse("10.0.0.0/30"), Action::drop}, {Prefix::parse("10.0.0.2/32"), Action::pass}}) ==
          "10.0.0.0/31 drop\n"
          "10.0.0.2/32 pass\n"
          "10.0.0.3/32 drop\n");
    CHECK(flat_text({{Prefix::parse("10.0.0.0/31"), Action::drop}, {Prefix::parse("10.0.0.0/32"), Action::drop}}) ==
          "10.0.0.0/32 drop\n"
          "10.0.0.1/32 drop\n");
    CHECK(flat_text({{Prefix::parse("10.0.0.0/24"), Action::drop}, {Prefix::parse("10.0.1.0/24"), Action::drop}}) ==
          "10.0.0.0/24 drop\n"
          "10.0.1.0/24 drop\n");
    CHECK(flat_text({}).empty());
}

TEST_CASE("flatten: equals a brute-force search on a small space") {
    std::mt19937 random(20270101);
    for (int round = 0; round < 300; ++round) {
        std::map<Prefix, Action> pools;
        for (uint64_t left = random() % 9; left != 0; --left) {
            const auto length = static_cast<uint8_t>(24 + random() % 9);
            pools[Prefix(Family::v4, {10, 0, 0, static_cast<uint8_t>(random())}, length)] =
                static_cast<Action>(random() % 4);
        }
        const std::vector<std::pair<Prefix, Action>> given(pools.begin(), pools.end()), flat = flatten(given);
        CHECK(std::is_sorted(flat.begin(), flat.end()));
        for (unsigned last = 0; last < 256; ++last) {
            const Prefix address(Family::v4, {10, 0, 0, static_cast<uint8_t>(last)}, 32);
            const auto covering =
                std::count_if(flat.begin(), flat.end(), [&](auto& p) { return p.first.contains(address); });
            REQUIRE(covering == (decided(given, address) ? 1 : 0));
            REQUIRE(decided(flat, address) == decided(given, address));
        }
    }
}

TEST_CASE("interface_key: names and beginnings of names") {
    CHECK(text(interface_key("bng0"), KeyKind::interface) == "\"bng0\"");
    CHECK(interface_key("bng0").length == 128);
    CHECK(text(interface_key("vlan*"), KeyKind::interface) == "\"vlan*\"");
    CHECK(interface_key("vlan*").length == 32);
    CHECK(interface_key("abcdefghijklmno*").length == 120);
    CHECK(covers(interface_key("vlan*"), interface_key("vlan7")));
    CHECK_FALSE(covers(interface_key("vlan7"), interface_key("vlan70")));
}

TEST_CASE("interface_key: refuses what no interface can be called") {
    CHECK(refusal("") ==
          "interface '' is empty; write a name such as 'bng0', or the beginning of names such as 'vlan*'");
    CHECK_THAT(refusal("*"), Catch::Contains("every interface"));
    CHECK_THAT(refusal("abcdefghijklmnop"), Catch::Contains("15 bytes"));
    CHECK_THAT(refusal("v*n"), Catch::Contains("'*' before its end"));
    for (const char* odd : {"a b", "a/b", "a\"b", "a\nb", "a\xff"})
        CHECK_THAT(refusal(odd), Catch::Contains("character"));
}

TEST_CASE("text: elements as nft prints them") {
    CHECK(text(to_key(Prefix::parse("100.64.0.0/16")), KeyKind::ipv4) == "100.64.0.0/16");
    CHECK(text(to_key(Prefix::parse("100.64.7.7")), KeyKind::ipv4) == "100.64.7.7");
    CHECK(text(to_key(Prefix::parse("2001:db8::/56")), KeyKind::ipv6) == "2001:db8::/56");
    CHECK(to_prefix(to_key(Prefix::parse("2001:db8::/56")), KeyKind::ipv6) == Prefix::parse("2001:db8::/56"));
}

TEST_CASE("exempt_set_name: read back, and foreign names are not ours") {
    for (const uint32_t capacity : {4096U, 8192U, 1U << 20}) {
        const ExemptSet set{Family::v6, 56, capacity};
        CHECK(parse_exempt_set_name(exempt_set_name(set.family, set.length, set.capacity)) == set);
    }
    CHECK(exempt_set_name(Family::v4, 32, 4096) == "exempt4_32");
    CHECK(exempt_set_name(Family::v4, 32, 131072) == "exempt4_32_131072");
    for (const char* name : {"exempt4_33", "exempt4_032", "exempt4_32_4096", "exempt4_32_5000", "exempt4_32_",
                             "exempt4_", "exempt4_32_8192x", "exempt5_32", "relay4", "exempt4_32_4294967296"}) {
        CHECK_FALSE(parse_exempt_set_name(name));
    }
}

TEST_CASE("exempt_set_of: the largest of two side by side, and not a set whose name only begins alike") {
    Fence fence;
    for (const char* name : {"exempt6_5", "exempt6_56", "exempt6_56_8192", "exempt4_32"}) fence.sets[name];
    CHECK(exempt_set_of(fence, Prefix::parse("2001:db8::/56")) == "exempt6_56_8192");
    fence.sets.erase("exempt6_56_8192");
    CHECK(exempt_set_of(fence, Prefix::parse("2001:db8::/56")) == "exempt6_56");
    fence.sets.erase("exempt6_56");
    CHECK_FALSE(exempt_set_of(fence, Prefix::parse("2001:db8::/56")));
}

TEST_CASE("compile: an empty policy still has the usual exemption sets") {
    const Fence fence = compile({}, {}, {});
    for (const char* name : {"exempt4_32", "exempt6_56", "exempt6_64", "relay4", "relay6", "pool4", "pool6",
                             "subscriber", "attempts4", "attempts6"}) {
        REQUIRE(fence.sets.contains(name));
        CHECK(fence.sets.at(name).elements.empty());
    }
    CHECK(fence.sets.size() == 10);
}

TEST_CASE("compile: every prefix length has its own set, and the longest is looked up first") {
    const Fence fence = compile(small_policy(test_time()), small_border(), {});
    CHECK(fence.sets.at("exempt4_24").elements.size() == 1);
    CHECK(fence.sets.at("exempt4_32").elements.size() == 2);
    std::string order;
    for (const Rule& rule : fence.chains.at("outbound").rules) {
        if (const auto at = rule.nft.find("@exempt"); at != std::string::npos) order += rule.nft.substr(at) + "\n";
    }
    CHECK(order == "@exempt4_32 return\n@exempt4_24 return\n@exempt6_64 return\n@exempt6_56 return\n");
}

TEST_CASE("compile: lengths and capacities that are there stay, others are twice what is needed") {
    const Instant now = test_time();
    Fence before = compile({}, {}, {});
    before.sets["exempt4_29_8192"].shape = exempt_shape({Family::v4, 29, 8192});
    CHECK(compile({}, {}, before).sets.contains("exempt4_29_8192"));
    CHECK(compile(many_rights(3276, now), {}, before).sets.contains("exempt4_32"));
    const Fence grown = compile(many_rights(3277, now), {}, before);
    CHECK_FALSE(grown.sets.contains("exempt4_32"));
    CHECK(grown.sets.at("exempt4_32_8192").shape.size == 8192);
    CHECK(compile(many_rights(3277, now), {}, {}).sets.contains("exempt4_32_8192"));
    CHECK(compile(many_rights(100'000, now), {}, {}).sets.contains("exempt4_32_262144"));
    CHECK(compile(many_rights(10, now), {}, grown).sets.contains("exempt4_32_8192"));
}

TEST_CASE("compile: nested relays and interfaces become disjoint") {
    Policy policy;
    policy.relays = {Prefix::parse("203.0.113.0/24"), Prefix::parse("203.0.113.10")};
    const Fence fence = compile(policy, {{"vlan7", "vlan*", "vlan*"}, Action::observe}, {});
    CHECK(fence.sets.at("relay4").elements.size() == 1);
    const auto& interfaces = fence.sets.at("subscriber").elements;
    REQUIRE(interfaces.size() == 1);
    CHECK(interfaces.begin()->first == interface_key("vlan*"));
    CHECK(interfaces.begin()->second.action == Action::observe);
}

TEST_CASE("compile: an end that the kernel can't hold is never") {
    Policy policy;
    policy.rights = {{Prefix::parse("100.64.0.1"), parse_instant("9999-01-01T00:00:00Z")}};
    CHECK(compile(policy, {}, {}).sets.at("exempt4_32").elements.begin()->second.until == never);
}
