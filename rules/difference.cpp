#include "rules/difference.hpp"

#include <algorithm>
#include <functional>

#include "rules/element_changes.hpp"
#include "rules/layout.hpp"

namespace smtpfence {

namespace {

/// Of exemption sets, by name.
using RightChanges = std::map<std::string, ElementChanges>;

void append(std::vector<Transaction>& to, std::vector<Operation> operations) {
    if (!operations.empty()) to.push_back({std::move(operations)});
}

const Elements& elements_of(const Fence& fence, const std::string& set) {
    static const Elements none;
    const auto found = fence.sets.find(set);
    return found == fence.sets.end() ? none : found->second.elements;
}

Elements taken_elements(Fence& from, const std::string& set) {
    const auto found = from.sets.find(set);
    return found == from.sets.end() ? Elements() : std::move(found->second.elements);
}

bool is_ours(const Fence& desired, const std::string& set) { return desired.sets.contains(set); }

/// Objects of our names but of another kind: only somebody else's hand makes them.
bool must_rebuild(const Fence& actual, const Fence& desired) {
    const bool set_differs = std::any_of(desired.sets.begin(), desired.sets.end(), [&](const auto& entry) {
        const auto have = actual.sets.find(entry.first);
        return have != actual.sets.end() && have->second.shape != entry.second.shape;
    });
    const bool chain_differs = std::any_of(desired.chains.begin(), desired.chains.end(), [&](const auto& entry) {
        const auto have = actual.chains.find(entry.first);
        return have != actual.chains.end() && have->second.hook.has_value() != entry.second.hook.has_value();
    });
    return set_differs || chain_differs;
}

/// Chains without rules, then empty sets: all but those for exemptions, or these alone.
std::vector<Operation> creations(const Fence& actual, const Fence& desired, bool exemptions) {
    std::vector<Operation> operations;
    for (const auto* chain : in_reading_order(desired.chains)) {
        if (exemptions || actual.chains.contains(chain->first)) continue;
        operations.emplace_back(AddChain{chain->first, chain->second.hook});
    }
    for (const auto* set : in_reading_order(desired.sets)) {
        if (actual.sets.contains(set->first) || parse_exempt_set_name(set->first).has_value() != exemptions) continue;
        operations.emplace_back(AddSet{set->first, set->second.shape});
    }
    return operations;
}

/// Everything at once: the objects refer to each other, and none of them may be missing for a moment. The one case in
/// which a new interval set is filled in the transaction that switches to it; newer kernels show it empty for the
/// milliseconds of that commit.
Changes rebuild(const Fence& actual, const Fence& desired) {
    std::vector<Operation> all;
    for (const auto& entry : actual.chains) all.emplace_back(ReplaceRules{entry.first, {}});
    for (const auto& entry : actual.sets) all.emplace_back(DeleteSet{entry.first});
    for (const auto& entry : actual.chains) all.emplace_back(DeleteChain{entry.first});
    for (const bool exemptions : {false, true}) {
        const std::vector<Operation> created = creations({}, desired, exemptions);
        all.insert(all.end(), created.begin(), created.end());
    }
    for (const auto& [name, set] : desired.sets) {
        append_elements(all, name, {}, ElementList(set.elements.begin(), set.elements.end()));
    }
    for (const auto& entry : desired.chains) {
        if (!entry.second.rules.empty()) all.emplace_back(ReplaceRules{entry.first, entry.second.rules});
    }
    return {{{std::move(all)}}};
}

/// The elements that an exemption set of `actual` should hold: those of the set that takes its place.
const Elements& rightful(const Fence& desired, const ExemptSet& set) {
    const auto successor = exempt_set_of(desired, Prefix(set.family, {}, set.length));
    return elements_of(desired, successor.value_or(std::string()));
}

/// Relays, pools and interfaces change together in one transaction: a network that becomes a pool and its relay, or a
/// pool that is split, is never seen half done. These sets have no declared size, so that nothing that widens here can
/// keep something that narrows from happening.
std::vector<Operation> border_changes(const Fence& actual, Fence& desired, Instant now) {
    std::vector<Operation> operations;
    std::vector<Operation> last;
    for (const char* const name : {"relay4", "relay6", "pool4", "pool6", "subscriber"}) {
        ElementChanges changes = compare(elements_of(actual, name), taken_elements(desired, name), now);
        std::move(changes.changed_from.begin(), changes.changed_from.end(), std::back_inserter(changes.ended));
        std::move(changes.changed_to.begin(), changes.changed_to.end(), std::back_inserter(changes.added));
        std::sort(changes.ended.begin(), changes.ended.end(), [](auto& a, auto& b) { return a.first < b.first; });
        std::sort(changes.added.begin(), changes.added.end(), [](auto& a, auto& b) { return a.first < b.first; });
        const bool relay = std::string_view(name).starts_with("relay");
        append_elements(operations, name, std::move(changes.ended), relay ? ElementList() : std::move(changes.added));
        if (relay) append_elements(last, name, {}, std::move(changes.added));
    }
    std::move(last.begin(), last.end(), std::back_inserter(operations));
    return operations;
}

/// All chains whose rules differ, in one transaction. A base chain with another hook is made anew in it: the kernel
/// registers the new hook before it lets go of the old one.
std::vector<Operation> rule_switches(const Fence& actual, const Fence& desired) {
    std::vector<Operation> operations;
    for (const auto& [name, chain] : desired.chains) {
        const auto have = actual.chains.find(name);
        const bool known = have != actual.chains.end();
        const bool moved = known && have->second.hook != chain.hook;
        if (moved) {
            operations.emplace_back(ReplaceRules{name, {}});
            operations.emplace_back(DeleteChain{name});
            operations.emplace_back(AddChain{name, chain.hook});
        }
        if (moved || (known ? have->second.rules != chain.rules : !chain.rules.empty())) {
            operations.emplace_back(ReplaceRules{name, chain.rules});
        }
    }
    return operations;
}

std::vector<Operation> leftovers(const Fence& actual, const Fence& desired) {
    std::vector<Operation> rules, sets, chains;
    for (const auto& [name, chain] : actual.chains) {
        if (desired.chains.contains(name)) continue;
        if (!chain.rules.empty()) rules.emplace_back(ReplaceRules{name, {}});
        chains.emplace_back(DeleteChain{name});
    }
    for (const auto& entry : actual.sets) {
        if (!is_ours(desired, entry.first)) sets.emplace_back(DeleteSet{entry.first});
    }
    std::move(sets.begin(), sets.end(), std::back_inserter(rules));
    std::move(chains.begin(), chains.end(), std::back_inserter(rules));
    return rules;
}

size_t elements_in(const Operation& operation) {
    if (const auto* add = std::get_if<AddElements>(&operation)) return add->elements.size();
    if (const auto* remove = std::get_if<DeleteElements>(&operation)) return remove->elements.size();
    const auto* gone = std::get_if<DeleteSet>(&operation);
    return gone ? gone->ended.size() : 0;
}

size_t weight(const Operation& operation) {
    if (const auto* replace = std::get_if<ReplaceRules>(&operation)) return std::max<size_t>(1, replace->rules.size());
    const bool elements_alone =
        std::holds_alternative<AddElements>(operation) || std::holds_alternative<DeleteElements>(operation);
    return elements_in(operation) + (elements_alone ? 0 : 1);
}

/// nullopt: there is no set for a new right, or it would be too full.
std::optional<RightChanges> right_changes(const Fence& applied, const PolicyDelta& delta, Instant now) {
    RightChanges changes;
    for (const auto& [prefix, until] : delta.rights) {
        const auto name = exempt_set_of(applied, prefix);
        const bool holds = until && *until > now;
        if (!name && holds) return std::nullopt;
        if (!name) continue;
        const auto& elements = elements_of(applied, *name);
        const auto have = elements.find(to_key(prefix));
        ElementChanges& set = changes[*name];
        const Held want{{}, holds ? kernel_end(*until) : now};
        if (have == elements.end()) {
            if (holds) set.added.emplace_back(to_key(prefix), want);
        } else if (!holds) {
            set.ended.push_back(*have);
        } else if (!same(have->second, want, jitter)) {
            set.change(have->first, have->second, want);
        }
    }
    for (const auto& [name, set] : changes) {
        const size_t after = elements_of(applied, name).size() + set.added.size() - set.ended.size();
        if (!set.added.empty() && !fits(after, applied.sets.at(name).shape.size)) return std::nullopt;
    }
    return changes;
}

/// Takes out of each set's ended exemptions those that a wider one begins around: they go last, so that nobody is
/// closed in between.
std::map<std::string, ElementList> taken_over(RightChanges& rights) {
    std::vector<std::pair<ExemptSet, const ElementList*>> begun;
    for (const auto& [name, set] : rights) {
        if (!set.added.empty()) begun.emplace_back(parse_exempt_set_name(name).value(), &set.added);
    }
    std::map<std::string, ElementList> inside;
    for (auto& [name, set] : rights) {
        const ExemptSet narrow = parse_exempt_set_name(name).value();
        auto wider = begun;
        std::erase_if(wider, [&](const auto& other) {
            return other.first.family != narrow.family || other.first.length >= narrow.length;
        });
        if (wider.empty()) continue;
        const auto begins_around = [&](const auto& element) {
            const Prefix prefix = to_prefix(element.first, exempt_shape(narrow).key);
            return std::any_of(wider.begin(), wider.end(), [&](const auto& other) {
                const Key around = to_key(prefix.widened(other.first.length));
                const auto found = std::lower_bound(other.second->begin(), other.second->end(), around,
                                                    [](const auto& one, const Key& key) { return one.first < key; });
                return found != other.second->end() && found->first == around;
            });
        };
        const auto first = std::stable_partition(set.ended.begin(), set.ended.end(), std::not_fn(begins_around));
        if (first == set.ended.end()) continue;
        inside[name].assign(first, set.ended.end());
        set.ended.erase(first, set.ended.end());
    }
    return inside;
}

void append_taken_over(std::vector<Transaction>& to, std::map<std::string, ElementList>& inside) {
    for (auto& [name, elements] : inside) append_chunks(to, name, std::move(elements), {});
}

/// The relay and pool sets alone, as `applied` has them and as the delta wants them.
std::vector<Operation> border_changes(const Fence& applied, const PolicyDelta& delta, Instant now) {
    if (!delta.relays && !delta.pools) return {};
    Fence have, want;
    for (const char* const name : {"relay4", "relay6", "pool4", "pool6"})
        have.sets[name].elements = elements_of(applied, name);
    want = have;
    if (delta.relays) fill_relays(want, *delta.relays);
    if (delta.pools) fill_pools(want, *delta.pools);
    return border_changes(have, want, now);
}

}  // namespace

size_t elements_in(const Transaction& transaction) {
    size_t sum = 0;
    for (const Operation& operation : transaction.operations) sum += elements_in(operation);
    return sum;
}

size_t Changes::size() const {
    size_t sum = 0;
    for (const Transaction& transaction : transactions) {
        for (const Operation& operation : transaction.operations) sum += weight(operation);
    }
    return sum;
}

Changes difference(const Fence& actual, Fence desired, Instant now) {
    if (must_rebuild(actual, desired)) return rebuild(actual, desired);
    Changes changes;
    std::vector<Transaction>& all = changes.transactions;
    append(all, creations(actual, desired, false));
    for (const auto& [name, set] : actual.sets) {
        const auto exempt = parse_exempt_set_name(name);
        if (!exempt || is_ours(desired, name)) continue;
        ElementChanges elements = compare(set.elements, rightful(desired, *exempt), now);
        append_narrowing(all, name, elements);
    }
    RightChanges rights;
    for (auto& [name, set] : desired.sets) {
        if (parse_exempt_set_name(name))
            rights[name] = compare(elements_of(actual, name), std::move(set.elements), now);
    }
    auto inside = taken_over(rights);
    for (auto& [name, set] : rights) append_narrowing(all, name, set);
    append(all, border_changes(actual, desired, now));
    append(all, creations(actual, desired, true));  // one that the kernel has no memory for holds back nothing above
    for (auto& [name, set] : rights) append_widening(all, name, set);
    append(all, rule_switches(actual, desired));
    append_taken_over(all, inside);
    append(all, leftovers(actual, desired));
    return changes;
}

void adopt_ends(Fence& applied, const Fence& desired, Instant now) {
    for (auto& [name, set] : applied.sets) {
        if (!parse_exempt_set_name(name)) continue;
        const Elements& wanted = elements_of(desired, name);
        auto want = wanted.begin();
        for (auto& [key, have] : set.elements) {
            while (want != wanted.end() && want->first < key) ++want;
            if (want == wanted.end()) break;
            if (want->first == key && have.until < want->second.until && may_stay(have, want->second, now))
                have.until = want->second.until;
        }
    }
}

std::optional<Changes> difference(const Fence& applied, const PolicyDelta& delta, Instant now) {
    auto rights = right_changes(applied, delta, now);
    if (!rights) return std::nullopt;
    Changes changes;
    auto inside = taken_over(*rights);
    for (auto& [name, set] : *rights) append_narrowing(changes.transactions, name, set);
    append(changes.transactions, border_changes(applied, delta, now));
    for (auto& [name, set] : *rights) append_widening(changes.transactions, name, set);
    append_taken_over(changes.transactions, inside);
    return changes;
}

}  // namespace smtpfence
