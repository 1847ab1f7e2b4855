#pragma once
// The table's fixed part: which sets, maps and chains there are, and every rule. What is fenced stands in the elements,
// not here. The only moving part is the list of exemption sets, each of which takes a rule in either direction.

#include <algorithm>
#include <bit>

#include "rules/fence.hpp"

namespace smtpfence {

/// The table's own comment; the kernel keeps it from the table's creation on.
inline constexpr const char* table_comment = "smtpfence keeps consumers off port 25; see: smtpfence status";

/// An exemption set, as its name tells it.
struct ExemptSet {
    Family family{};
    uint8_t length = 0;
    uint32_t capacity = 0;
    friend bool operator==(const ExemptSet&, const ExemptSet&) = default;
};

inline constexpr uint32_t first_capacity = 4096;
/// Whether a set of `capacity` holds `elements` and stays at most 80 % full.
constexpr bool fits(size_t elements, uint32_t capacity) { return uint64_t{elements} * 5 <= uint64_t{capacity} * 4; }
/// The capacity of a set that is made for so many.
constexpr uint32_t capacity_for(size_t elements) {
    return std::bit_ceil(std::max(first_capacity, 2 * static_cast<uint32_t>(elements)));
}

/// Inverse of exempt_set_name(), for the names of every layout: what an earlier version left is read, narrowed until
/// the rules are switched, then removed. nullopt: no exemption set of ours.
std::optional<ExemptSet> parse_exempt_set_name(const std::string&);
std::vector<ExemptSet> exempt_sets_of(const Fence&);
SetShape exempt_shape(const ExemptSet&);

/// How often the kernel collects what has ended in a set of elements with timeouts, when nobody says anything else.
inline constexpr Seconds collected_by_default{1};
/// How often it shall in this one. It walks through all of the set, on a core that does nothing else meanwhile, and so
/// does that the less often the larger the set is: the same share of the time at any size.
Seconds collected_every(const SetShape&);
/// What ends within these may have ended: whoever compares ends counts in seconds, as the kernel does not.
inline constexpr Seconds ending{2};
/// Forgets what ended so long before `now` that the kernel has collected it. It gives a walk up when anybody commits
/// meanwhile, and begins the next one an interval later: ten of them are allowed for.
void forget_collected(Set&, Instant now);
/// Moves what is over at `now` to what has ended.
void retire_ended(Set&, Instant now);

/// Relays, pools, subscriber interfaces, attempts: name and shape.
const std::map<std::string, SetShape>& fixed_sets();

/// Of one of our sets, by its name alone. nullopt: none of ours.
std::optional<SetShape> shape_of(const std::string& set);

/// The chain that an action's verdict goes to ("consumer_drop"); empty for pass, which returns.
std::string action_chain(Action);
/// The verdict as nft prints it: "goto consumer_drop", "return".
std::string verdict_text(Action);

/// Every chain with its rules, for these exemption sets (in any order; the rules look the longest prefixes up first).
std::map<std::string, Chain> chains_with(std::vector<ExemptSet>);

/// Where a set or chain stands for a reader: relays before pools, border before the chains that it leads to.
size_t reading_rank(const std::string& name);
/// Sets or chains in that order. They are created in it, and `nft list` prints them as they were created.
template <typename T>
std::vector<const std::pair<const std::string, T>*> in_reading_order(const std::map<std::string, T>& named) {
    std::vector<const std::pair<const std::string, T>*> ordered;
    for (const auto& entry : named) ordered.push_back(&entry);
    std::stable_sort(ordered.begin(), ordered.end(),
                     [](const auto* a, const auto* b) { return reading_rank(a->first) < reading_rank(b->first); });
    return ordered;
}

/// Gives rules that were read from the kernel (without their nft text) the text of the equal rule of this layout.
void name_rules(Fence&);

/// Whether `wide` contains `narrow`; both of one kind.
bool covers(const Key& wide, const Key& narrow);
/// Replaces the elements of the relay sets; a relay inside another one is left out.
void fill_relays(Fence&, const std::vector<Prefix>&);
/// Replaces the elements of the pool maps by the flattened pools.
void fill_pools(Fence&, const std::vector<std::pair<Prefix, Action>>&);
/// An end that the kernel can hold: from the year 2400 on it is `never`.
Instant kernel_end(Instant);

}  // namespace smtpfence
