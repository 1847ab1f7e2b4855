#include "rules/judgement.hpp"

#include <algorithm>

#include "rules/layout.hpp"

namespace smtpfence {

namespace {

/// Exemption sets of the family that can hold the line, longest prefixes first, as the rules look them up.
std::vector<ExemptSet> exempt_sets(const Fence& layout, const Prefix& line) {
    std::vector<ExemptSet> sets;
    for (const auto& entry : layout.sets) {
        const auto set = parse_exempt_set_name(entry.first);
        if (set && set->family == line.family() && set->length <= line.length()) sets.push_back(*set);
    }
    std::sort(sets.begin(), sets.end(), [](const ExemptSet& a, const ExemptSet& b) {
        return a.length != b.length ? a.length > b.length : a.capacity < b.capacity;
    });
    return sets;
}

/// The rule of `chain` that begins so, as nft prints it.
std::string rule_with(const Fence& layout, const std::string& part) {
    const auto chain = layout.chains.find("outbound");
    if (chain == layout.chains.end()) return part;
    for (const Rule& rule : chain->second.rules) {
        if (rule.nft.starts_with(part)) return rule.nft;
    }
    return part;
}

std::string in_set(const Key& key, KeyKind kind, const std::string& set) { return text(key, kind) + " in " + set; }

}  // namespace

Lookup lookup_in(const Fence& fence) {
    return [&fence](const std::string& name, const Key& address) -> std::optional<std::pair<Key, Held>> {
        const auto set = fence.sets.find(name);
        if (set == fence.sets.end()) return std::nullopt;
        const auto& elements = set->second.elements;
        const auto after = elements.upper_bound(address);
        if (after == elements.begin()) return std::nullopt;
        const auto element = std::prev(after);
        if (!covers(element->first, address)) return std::nullopt;
        return *element;
    };
}

Judgement judge(const Fence& layout, const Lookup& lookup, const Prefix& line, const std::optional<Prefix>& to) {
    const bool v4 = line.family() == Family::v4;
    const KeyKind kind = v4 ? KeyKind::ipv4 : KeyKind::ipv6;
    const std::string digit = v4 ? "4" : "6", field = v4 ? "ip" : "ip6", relays = "relay" + digit,
                      pools = "pool" + digit;
    const auto pass = [&](const std::string& end, const std::string& set, const Key& key) {
        return Judgement{
            Action::pass, rule_with(layout, field + " " + end + " @" + set), in_set(key, kind, set), false, {}};
    };
    if (to && to->family() == line.family()) {
        if (const auto relay = lookup(relays, to_key(*to))) return pass("daddr", relays, relay->first);
    }
    if (const auto relay = lookup(relays, to_key(line))) return pass("saddr", relays, relay->first);
    for (const ExemptSet& set : exempt_sets(layout, line)) {
        const std::string name = exempt_set_name(set.family, set.length, set.capacity);
        const auto right = lookup(name, to_key(line.widened(set.length)));
        if (!right) continue;
        const std::string mask = set.length == bits(set.family) ? " @" : " & ";
        Judgement judgement{Action::pass, "", in_set(right->first, kind, name), true, {}};
        for (const Rule& rule :
             layout.chains.contains("outbound") ? layout.chains.at("outbound").rules : std::vector<Rule>()) {
            if (rule.nft.starts_with(field + " saddr" + mask) && rule.nft.ends_with("@" + name + " return"))
                judgement.rule = rule.nft;
        }
        if (right->second.until != never) judgement.until = right->second.until;
        return judgement;
    }
    if (const auto pool = lookup(pools, to_key(line))) {
        return {pool->second.action.value_or(Action::pass),
                rule_with(layout, field + " saddr vmap @" + pools),
                in_set(pool->first, kind, pools),
                false,
                {}};
    }
    return {Action::pass, "no rule: not fenced", "", false, {}};
}

}  // namespace smtpfence
