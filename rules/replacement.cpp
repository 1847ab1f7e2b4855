// Exemption sets of which most goes, made anew with what stays; and empty ones, filled.

#include <algorithm>

#include "rules/element_changes.hpp"
#include "rules/layout.hpp"

namespace smtpfence {

namespace {

struct Parting {
    ElementList stays;
    std::deque<Key> goes;
};

/// nullopt: not worth a new set.
std::optional<Parting> part(const Elements& have, const Elements& want, Instant now, size_t least) {
    if (have.size() < least) return std::nullopt;
    Parting parting;
    auto wanted = want.begin();  // both stand in the same order
    for (const auto& [key, held] : have) {
        if (over(held, now)) continue;
        while (wanted != want.end() && wanted->first < key) ++wanted;
        if (wanted == want.end() || wanted->first != key || over(wanted->second, now)) {
            parting.goes.push_back(key);
            continue;
        }
        parting.stays.emplace_back(key, Held{{}, std::min(held.until, wanted->second.until)});
        if (3 * parting.stays.size() > have.size()) return std::nullopt;
    }
    if (parting.goes.size() < std::max(least, 2 * parting.stays.size())) return std::nullopt;
    return parting;
}

bool same_kind(const ExemptSet& a, const ExemptSet& b) { return a.family == b.family && a.length == b.length; }

/// The set that holds in `desired` what `set` holds now, by a name that differs from its own.
std::optional<ExemptSet> successor_of(const ExemptSet& set, const Fence& desired) {
    const auto name = exempt_set_of(desired, Prefix(set.family, {}, set.length));
    if (!name) return std::nullopt;
    ExemptSet successor = parse_exempt_set_name(*name).value();
    if (successor != set) return successor;
    successor.capacity = capacity_for(desired.sets.at(*name).elements.size());
    if (successor == set) successor.capacity *= 2;
    return successor;
}

std::string name_of(const ExemptSet& set) { return exempt_set_name(set.family, set.length, set.capacity); }

/// Whether a wider right begins in `desired` around one of those that go from the set: they go behind it, one by one.
bool begins_around(const std::deque<Key>& goes, const ExemptSet& set, const Fence& actual, const Fence& desired) {
    for (const ExemptSet& wide : exempt_sets_of(desired)) {
        if (wide.family != set.family || wide.length >= set.length) continue;
        const SetShape shape = exempt_shape(wide);
        for (const auto& [key, held] : desired.sets.at(name_of(wide)).elements) {
            const Prefix around = to_prefix(key, shape.key);
            const auto inside =
                std::lower_bound(goes.begin(), goes.end(), to_key(Prefix(set.family, around.address(), set.length)));
            if (inside == goes.end() || !around.contains(to_prefix(*inside, exempt_shape(set).key))) continue;
            const auto before = exempt_set_of(actual, around);
            if (!before || !actual.sets.at(*before).elements.contains(key)) return true;
        }
    }
    return false;
}

}  // namespace

Replacement replacement(const Fence& actual, const Fence& desired, Instant now, size_t least) {
    Replacement result;
    const std::vector<ExemptSet> sets = exempt_sets_of(actual);
    if (actual.chains != chains_with(sets)) return result;
    std::vector<ExemptSet> after;
    std::vector<Transaction>& all = result.changes.transactions;
    Transaction deletion;
    for (const ExemptSet& set : sets) {
        after.push_back(set);
        if (std::count_if(sets.begin(), sets.end(), [&](const auto& other) { return same_kind(set, other); }) > 1)
            continue;
        const auto successor = successor_of(set, desired);
        if (!successor) continue;
        const std::string name = name_of(set), next = name_of(*successor);
        const auto wanted = desired.sets.find(desired.sets.contains(name) ? name : next);
        auto parting = part(actual.sets.at(name).elements, wanted->second.elements, now, least);
        if (!parting || begins_around(parting->goes, set, actual, desired)) continue;
        after.back() = *successor;
        result.successors[name] = next;
        all.push_back({{AddSet{next, exempt_shape(*successor)}}});
        append_chunks(all, next, {}, std::move(parting->stays));
        deletion.operations.emplace_back(DeleteSet{name, std::move(parting->goes)});
    }
    if (deletion.operations.empty()) return result;
    Transaction& last = all.emplace_back();
    for (auto& [name, chain] : chains_with(after)) {
        if (actual.chains.at(name) != chain) last.operations.emplace_back(ReplaceRules{name, chain.rules});
    }
    std::move(deletion.operations.begin(), deletion.operations.end(), std::back_inserter(last.operations));
    return result;
}

void adopt(const std::map<std::string, std::string>& successors, Fence& desired) {
    for (const auto& [name, successor] : successors) {
        auto set = desired.sets.extract(name);
        if (set.empty()) continue;  // it was to grow in any case
        set.key() = successor;
        set.mapped().shape = exempt_shape(parse_exempt_set_name(successor).value());
        desired.sets.insert(std::move(set));
    }
    desired.chains = chains_with(exempt_sets_of(desired));
}

std::map<std::string, Elements> take_fillings(const Fence& actual, Fence& desired, size_t least) {
    std::map<std::string, Elements> fillings;
    const std::vector<ExemptSet> sets = exempt_sets_of(actual);
    if (actual.chains != chains_with(sets)) return fillings;  // perhaps of another layout, with other names
    const bool sound = std::all_of(sets.begin(), sets.end(), [&](const ExemptSet& set) {
        const auto found = actual.sets.find(name_of(set));
        return found != actual.sets.end() && found->second.shape == exempt_shape(set);  // else it isn't read
    });
    if (!sound) return fillings;
    for (const ExemptSet& set : sets) {
        const auto wanted = desired.sets.find(name_of(set));
        if (wanted == desired.sets.end() || wanted->second.elements.size() < least) continue;
        const bool alone = std::none_of(sets.begin(), sets.end(), [&](const ExemptSet& other) {
            const Set& held = actual.sets.at(name_of(other));
            return other.family == set.family && other.length >= set.length &&
                   !(held.elements.empty() && held.ended.empty());
        });
        if (alone) fillings[wanted->first] = std::move(wanted->second.elements);
    }
    return fillings;
}

}  // namespace smtpfence
