#include "rules/scenario.hpp"

#include <algorithm>
#include <set>

namespace smtpfence {

namespace {

Prefix address4(uint32_t value, uint8_t length = 32) {
    return Prefix(Family::v4,
                  {static_cast<uint8_t>(value >> 24), static_cast<uint8_t>(value >> 16),
                   static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value)},
                  length);
}

uint32_t below(std::mt19937& random, uint32_t limit) { return static_cast<uint32_t>(random() % limit); }

/// Prefixes of a small space, so that they meet each other, and now and then the ends of the address space.
Prefix random_prefix(std::mt19937& random, std::initializer_list<int> lengths4, std::initializer_list<int> lengths6) {
    const bool v4 = below(random, 3) != 0;
    const auto& lengths = v4 ? lengths4 : lengths6;
    const auto length = static_cast<uint8_t>(*(lengths.begin() + below(random, static_cast<uint32_t>(lengths.size()))));
    Prefix::Address address{};
    if (below(random, 20) == 0) {
        address.fill(below(random, 2) == 0 ? 0xff : 0x00);
    } else if (v4) {
        address = {100, static_cast<uint8_t>(64 + below(random, 2)), static_cast<uint8_t>(below(random, 4)),
                   static_cast<uint8_t>(below(random, 256))};
    } else {
        address = {0x20, 1,
                   0x0d, 0xb8,
                   1,    static_cast<uint8_t>(below(random, 2)),
                   0,    static_cast<uint8_t>(below(random, 256))};
    }
    if (v4) std::fill(address.begin() + 4, address.end(), uint8_t{0});
    return Prefix(v4 ? Family::v4 : Family::v6, address, length);
}

}  // namespace

Instant test_time() { return parse_instant("2027-01-01T00:00:00Z"); }

Policy small_policy(Instant now) {
    Policy policy;
    policy.revision = 7;
    for (const char* relay : {"203.0.113.10", "203.0.113.32/28", "2001:db8:ffff::10"}) {
        policy.relays.push_back(Prefix::parse(relay));
    }
    policy.pools = {{Prefix::parse("100.64.0.0/16"), Action::drop},
                    {Prefix::parse("100.64.128.0/24"), Action::pass},
                    {Prefix::parse("100.65.0.0/24"), Action::reject},
                    {Prefix::parse("100.66.0.0/24"), Action::observe},
                    {Prefix::parse("2001:db8:100::/40"), Action::drop}};
    policy.rights = {{Prefix::parse("100.64.7.7"), now + Seconds{30 * 86400}},
                     {Prefix::parse("100.64.7.8"), never},
                     {Prefix::parse("100.64.9.0/24"), now + Seconds{90061}},
                     {Prefix::parse("2001:db8:100:700::/56"), never},
                     {Prefix::parse("2001:db8:101::/64"), now + Seconds{3600}}};
    return policy;
}

Border small_border() { return {{"bng0", "vlan*"}, Action::drop}; }

Policy random_policy(std::mt19937& random, Instant now) {
    Policy policy;
    std::set<Prefix> relays, rights;
    std::map<Prefix, Action> pools;
    for (uint32_t left = below(random, 6); left != 0; --left)
        relays.insert(random_prefix(random, {24, 28, 31, 32}, {64, 127, 128}));
    for (uint32_t left = below(random, 12); left != 0; --left) {
        pools[random_prefix(random, {1, 9, 16, 22, 24, 27, 32}, {3, 32, 40, 48, 64})] =
            static_cast<Action>(below(random, 4));
    }
    for (uint32_t left = below(random, 40); left != 0; --left) {
        rights.insert(random_prefix(random, {24, 29, 32, 32, 32}, {48, 56, 56, 60, 64, 128}));
    }
    policy.relays.assign(relays.begin(), relays.end());
    policy.pools.assign(pools.begin(), pools.end());
    for (const Prefix& prefix : rights) {
        // Far enough apart, and from now, that the kernel's clock can't make two of them look alike.
        const Instant until =
            below(random, 3) == 0 ? never : now + Seconds{1000 + 1000 * int64_t{below(random, 100'000)}};
        policy.rights.push_back({prefix, until});
    }
    return policy;
}

Border random_border(std::mt19937& random) {
    Border border;
    for (const char* pattern : {"bng0", "bng00", "bng1", "vlan*", "vlan7", "a*", "abcdefghijklmno"}) {
        if (below(random, 3) == 0) border.subscriber.emplace_back(pattern);
    }
    border.action = static_cast<Action>(below(random, 3));
    return border;
}

Policy many_rights(uint32_t count, Instant now) {
    Policy policy = small_policy(now);
    policy.rights.clear();
    for (uint32_t i = 0; i < count; ++i)
        policy.rights.push_back({address4((100U << 24 | 64U << 16) + i), now + Seconds{365 * 86400}});
    return policy;
}

std::string left_to_do(const Fence& actual, const Fence& desired) {
    const auto lines = describe(actual, difference(actual, desired, now()));
    if (lines.empty()) return "";
    const ChangeLine& first = lines.front();
    return first.verb + " " + first.object + " " + first.where + " " + first.what + " (" +
           std::to_string(lines.size()) + " in all)";
}

}  // namespace smtpfence
