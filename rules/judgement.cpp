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

/// The text of the first rule of chain outbound that passes `wanted`.
template <typename Wanted>
std::string outbound_rule(const Fence& layout, Wanted wanted) {
    const auto chain = layout.chains.find("outbound");
    if (chain == layout.chains.end()) return "";
    const auto& rules = chain->second.rules;
    const auto rule = std::find_if(rules.begin(), rules.end(), [&](const Rule& one) { return wanted(one.nft); });
    return rule == rules.end() ? "" : rule->nft;
}

/// The steps of chain outbound for one line, in its order. nullopt: the step does not decide.
class Judge {
public:
    Judge(const Fence& layout, const Lookup& lookup, const Prefix& line)
        : layout_(layout),
          lookup_(lookup),
          line_(line),
          kind_(line.family() == Family::v4 ? KeyKind::ipv4 : KeyKind::ipv6),
          digit_(line.family() == Family::v4 ? "4" : "6"),
          field_(line.family() == Family::v4 ? "ip" : "ip6") {}

    // ip daddr @relay4 accept; ip saddr @relay4 accept
    std::optional<Judgement> relay(const Prefix& address, const char* end) const {
        const auto element = lookup_("relay" + digit_, to_key(address));
        if (!element) return std::nullopt;
        return decided(Action::pass, field_ + " " + end + " @relay" + digit_, "relay" + digit_, element->first);
    }

    // ip saddr & 255.255.255.0 == @exempt4_24 return
    std::optional<Judgement> exemption() const {
        for (const ExemptSet& set : exempt_sets(layout_, line_)) {
            const std::string name = exempt_set_name(set.family, set.length, set.capacity);
            const auto right = lookup_(name, to_key(line_.widened(set.length)));
            if (!right) continue;
            Judgement judgement{Action::pass, "", text(right->first, kind_) + " in " + name, true, {}};
            judgement.rule =
                outbound_rule(layout_, [&](const std::string& nft) { return nft.ends_with("@" + name + " return"); });
            if (right->second.until != never) judgement.until = right->second.until;
            return judgement;
        }
        return std::nullopt;
    }

    // ip saddr vmap @pool4
    std::optional<Judgement> pool() const {
        const auto element = lookup_("pool" + digit_, to_key(line_));
        if (!element) return std::nullopt;
        return decided(element->second.action.value_or(Action::pass), field_ + " saddr vmap @pool" + digit_,
                       "pool" + digit_, element->first);
    }

private:
    Judgement decided(Action action, const std::string& beginning, const std::string& set, const Key& key) const {
        const auto begins = [&](const std::string& nft) { return nft.starts_with(beginning); };
        return {action, outbound_rule(layout_, begins), text(key, kind_) + " in " + set, false, {}};
    }

    const Fence& layout_;
    const Lookup& lookup_;
    const Prefix& line_;
    KeyKind kind_;
    std::string digit_, field_;
};

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
    const Judge judge(layout, lookup, line);
    std::optional<Judgement> judgement;
    if (to && to->family() == line.family()) judgement = judge.relay(*to, "daddr");
    if (!judgement) judgement = judge.relay(line, "saddr");
    if (!judgement) judgement = judge.exemption();
    if (!judgement) judgement = judge.pool();
    return judgement.value_or(Judgement{Action::pass, "no rule: not fenced", "", false, {}});
}

}  // namespace smtpfence
