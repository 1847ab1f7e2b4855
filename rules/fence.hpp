#pragma once
// The nftables table as a value: what should be there (compiled from a Policy) and what is there (read from the kernel)
// are the same type.
//
//   Fence desired = compile(policy, border, actual);
//   Changes changes = difference(actual, desired, now());    // difference.hpp
//
// Rules are fixed by the program's version; what subscribers, operators and configuration change are elements. The
// exceptions are the exemption sets: one per prefix length in use, with a capacity in its name once it outgrew the
// first one.

#include <absl/container/btree_map.h>

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "subscribers/policy.hpp"

namespace smtpfence {

inline constexpr const char* table_name = "smtpfence";  ///< family inet

/// What the keys of a set are (nft's words: ipv4_addr, ipv6_addr, ifname).
enum class KeyKind : uint8_t { ipv4, ipv6, interface };

/// A set's key: network byte order, IPv4 in the first 4 bytes; an interface name padded with zeros. `length` counts the
/// bits that matter: a prefix in interval sets ("vlan*" is 32 bits of "vlan"), all bits of an exact interface name, the
/// set's own length in exemption sets.
struct Key {
    std::array<uint8_t, 16> bytes{};
    uint8_t length = 0;
    friend std::strong_ordering operator<=>(const Key& a, const Key& b) {
        const std::strong_ordering addresses = order(a.bytes, b.bytes);
        return addresses != 0 ? addresses : a.length <=> b.length;
    }
    friend bool operator==(const Key&, const Key&) = default;
};
Key to_key(const Prefix&);
Prefix to_prefix(const Key&, KeyKind);  ///< for ipv4 and ipv6 only
Key interface_key(
    const std::string& pattern);  ///< "bng0" or "vlan*". Throws Refused (invalid): empty, too long, a '*' elsewhere
std::string text(const Key&, KeyKind);  ///< as nft prints it: "100.64.0.0/16", "100.64.7.7", "\"vlan*\""

constexpr Instant never = Instant::max();

/// An Instant at any address, so that nothing is left empty in front of it: a million of them are held at once.
class Expiry {
public:
    Expiry(Instant instant) { std::memcpy(seconds_.data(), &instant, sizeof instant); }
    operator Instant() const {
        Instant instant;
        std::memcpy(&instant, seconds_.data(), sizeof instant);
        return instant;
    }
    Expiry& operator+=(Seconds later) { return *this = Instant(*this) + later; }
    Expiry& operator-=(Seconds earlier) { return *this = Instant(*this) - earlier; }
    friend bool operator==(Expiry a, Expiry b) { return Instant(a) == Instant(b); }
    friend auto operator<=>(Expiry a, Expiry b) { return Instant(a) <=> Instant(b); }
    friend Seconds operator-(Expiry a, Expiry b) { return Instant(a) - Instant(b); }

private:
    std::array<unsigned char, sizeof(Instant)> seconds_;
};

/// What an element holds beside its key.
struct Held {
    std::optional<Action> action;  ///< in verdict maps: drop, reject, observe are "goto consumer_…", pass is "return"
    Expiry until = never;          ///< the kernel's timeout ends it then
    friend bool operator==(const Held&, const Held&) = default;
};
static_assert(alignof(Held) == 1);

struct SetShape {
    KeyKind key{};
    bool interval = false;  ///< prefixes rather than exact keys
    bool verdicts = false;  ///< a verdict map
    bool timeouts = false;  ///< elements may carry a timeout
    bool dynamic =
        false;           ///< filled by the packet path (attempts), with a counter each; its elements are never compared
    uint32_t size = 0;   ///< 0: none declared
    Seconds timeout{0};  ///< of elements without their own; 0: none
    friend bool operator==(const SetShape&, const SetShape&) = default;
};

/// What a set holds, by key: a B-tree, because a million of them are held at once (30 bytes each, not 80). Whatever
/// adds or removes one ends its iterators.
using Elements = absl::btree_map<Key, Held>;

struct Set {
    SetShape shape;
    Elements elements;
    Elements ended{};  ///< what ended by itself, so lately that a kernel may still count it; not compared
    friend bool operator==(const Set& a, const Set& b) { return a.shape == b.shape && a.elements == b.elements; }
};

struct Rule {
    std::string nft;  ///< the statement part as `nft list` prints it; empty for a rule that is not ours; not compared
    std::string comment;  ///< may be empty
    std::string
        code;  ///< NFTA_RULE_EXPRESSIONS payload in canonical form: attributes in libnftnl's order, counters zero
    friend bool operator==(const Rule& a, const Rule& b) { return a.comment == b.comment && a.code == b.code; }
};

/// Of a chain that no packet comes by as it does by ours.
inline constexpr uint32_t no_hook = UINT32_MAX;

/// The only base chain: inet filter forward, policy accept.
struct Hook {
    uint32_t hook = 2;       ///< NF_INET_FORWARD
    int32_t priority = -10;  ///< before an operator's filter (0)
    bool drop = false;       ///< policy
    friend bool operator==(const Hook&, const Hook&) = default;
};

struct Chain {
    std::optional<Hook> hook;
    std::vector<Rule> rules;
    friend bool operator==(const Chain&, const Chain&) = default;
};

/// The whole table; empty when the kernel has none.
struct Fence {
    std::map<std::string, Set> sets;      ///< by name
    std::map<std::string, Chain> chains;  ///< by name
    bool empty() const { return sets.empty() && chains.empty(); }
    friend bool operator==(const Fence&, const Fence&) = default;
};

/// What the configuration adds to the policy: [interfaces].
struct Border {
    std::vector<std::string> subscriber;  ///< patterns; empty: only pools decide
    Action action = Action::drop;         ///< for sources outside every pool on them: drop, reject or observe
};

/// The fence that a policy asks for. `actual` (may be empty) only decides which exemption sets exist: lengths and
/// capacities that are there stay. A capacity is a power of two of at least 4,096 that is at most 80 % full, and twice
/// what is needed when it is chosen anew. Lets go of the policy's rights while it reads them: what is moved in is never
/// held twice.
Fence compile(Policy, const Border&, const Fence& actual);

/// Nested pools to disjoint prefixes, the longest deciding; never merged across pools. Sorted.
std::vector<std::pair<Prefix, Action>> flatten(const std::vector<std::pair<Prefix, Action>>& pools);

/// The fence without the elements of its exemption sets.
Fence outline(const Fence&);

/// Relays, pools and interfaces of `border`, the exemption sets of `holder`, and this program's rules for them.
Fence with_border(const Fence& border, const Fence& holder);

/// "exempt4_32", or "exempt4_32_131072" when it was grown beyond the first capacity.
std::string exempt_set_name(Family, uint8_t length, uint32_t capacity);
/// The exemption set for this prefix in `fence` (the largest, if two are side by side); nullopt: no set for its length
/// yet.
std::optional<std::string> exempt_set_of(const Fence&, const Prefix&);

}  // namespace smtpfence
