#include "rules/difference.hpp"

#include <algorithm>

#include "rules/layout.hpp"

namespace smtpfence {

namespace {

/// Elements of one transaction: few enough that the kernel's commit lock is held for milliseconds only.
constexpr size_t chunk_size = 10'000;
constexpr Seconds jitter{2};

using Elements = std::vector<std::pair<Key, Held>>;

bool over(const Held& held, Instant now) { return held.until <= now; }

/// A right that ends a little early in the kernel may stay so; one that would end late may not.
bool equal(const Held& have, const Held& want, Seconds tolerance) {
    if (have.action != want.action) return false;
    if (have.until == want.until) return true;
    if (have.until == never || want.until == never) return false;
    return have.until < want.until ? want.until - have.until <= tolerance : have.until - want.until <= jitter;
}

Seconds tolerance(const Held& want, Instant now) {
    return want.until == never ? Seconds{0} : std::max(jitter, (want.until - now) / 1000);
}

/// What has to happen to one set's elements. A changed element is removed and added within one transaction.
struct ElementChanges {
    Elements ended, shortened_from, shortened_to;  // narrowing
    Elements added, changed_from, changed_to;      // widening, and other actions

    void change(const Key& key, const Held& have, const Held& want) {
        const bool shorter = want.until < have.until;
        (shorter ? shortened_from : changed_from).emplace_back(key, have);
        (shorter ? shortened_to : changed_to).emplace_back(key, want);
    }
};

ElementChanges compare(const std::map<Key, Held>& have, const std::map<Key, Held>& want, Instant now) {
    ElementChanges changes;
    auto h = have.begin();
    auto w = want.begin();
    while (h != have.end() || w != want.end()) {
        if (w == want.end() || (h != have.end() && h->first < w->first)) {
            if (!over(h->second, now)) changes.ended.push_back(*h);
            ++h;
        } else if (h == have.end() || w->first < h->first) {
            if (!over(w->second, now)) changes.added.push_back(*w);
            ++w;
        } else {
            if (over(w->second, now)) {
                if (!over(h->second, now)) changes.ended.push_back(*h);
            } else if (over(h->second, now) || !equal(h->second, w->second, tolerance(w->second, now))) {
                changes.change(h->first, h->second, w->second);
            }
            ++h, ++w;
        }
    }
    return changes;
}

void append_elements(std::vector<Operation>& to, const std::string& set, Elements removed, Elements added) {
    if (!removed.empty()) to.emplace_back(DeleteElements{set, std::move(removed)});
    if (!added.empty()) to.emplace_back(AddElements{set, std::move(added)});
}

/// Elements that are removed and added again stay in one transaction.
void append_chunks(std::vector<Transaction>& to, const std::string& set, const Elements& removed,
                   const Elements& added) {
    const size_t size = std::max(removed.size(), added.size());
    const auto part = [](const Elements& all, size_t from) {
        const auto at = [&](size_t i) { return all.begin() + static_cast<ptrdiff_t>(std::min(i, all.size())); };
        return Elements(at(from), at(from + chunk_size));
    };
    for (size_t from = 0; from < size; from += chunk_size) {
        Transaction transaction;
        append_elements(transaction.operations, set, part(removed, from), part(added, from));
        to.push_back(std::move(transaction));
    }
}

void append(std::vector<Transaction>& to, std::vector<Operation> operations) {
    if (!operations.empty()) to.push_back({std::move(operations)});
}

const std::map<Key, Held>& elements_of(const Fence& fence, const std::string& set) {
    static const std::map<Key, Held> none;
    const auto found = fence.sets.find(set);
    return found == fence.sets.end() ? none : found->second.elements;
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

/// Chains without rules, then empty sets.
std::vector<Operation> creations(const Fence& actual, const Fence& desired) {
    std::vector<Operation> operations;
    for (const auto* chain : in_reading_order(desired.chains)) {
        if (!actual.chains.contains(chain->first)) operations.emplace_back(AddChain{chain->first, chain->second.hook});
    }
    for (const auto* set : in_reading_order(desired.sets)) {
        if (!actual.sets.contains(set->first)) operations.emplace_back(AddSet{set->first, set->second.shape});
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
    const std::vector<Operation> created = creations({}, desired);
    all.insert(all.end(), created.begin(), created.end());
    for (const auto& [name, set] : desired.sets) {
        append_elements(all, name, {}, Elements(set.elements.begin(), set.elements.end()));
    }
    for (const auto& entry : desired.chains) {
        if (!entry.second.rules.empty()) all.emplace_back(ReplaceRules{entry.first, entry.second.rules});
    }
    return {{{std::move(all)}}};
}

/// The elements that an exemption set of `actual` should hold: those of the set that takes its place.
const std::map<Key, Held>& rightful(const Fence& desired, const ExemptSet& set) {
    const auto successor = exempt_set_of(desired, Prefix(set.family, {}, set.length));
    return elements_of(desired, successor.value_or(std::string()));
}

/// Relays, pools and interfaces change together in one transaction: a network that becomes a pool and its relay, or a
/// pool that is split, is never seen half done. These sets have no declared size, so that nothing that widens here can
/// keep something that narrows from happening.
std::vector<Operation> border_changes(const Fence& actual, const Fence& desired, Instant now) {
    std::vector<Operation> operations;
    std::vector<Operation> last;
    for (const char* const name : {"relay4", "relay6", "pool4", "pool6", "subscriber"}) {
        ElementChanges changes = compare(elements_of(actual, name), elements_of(desired, name), now);
        std::move(changes.changed_from.begin(), changes.changed_from.end(), std::back_inserter(changes.ended));
        std::move(changes.changed_to.begin(), changes.changed_to.end(), std::back_inserter(changes.added));
        std::sort(changes.ended.begin(), changes.ended.end(), [](auto& a, auto& b) { return a.first < b.first; });
        std::sort(changes.added.begin(), changes.added.end(), [](auto& a, auto& b) { return a.first < b.first; });
        const bool relay = std::string_view(name).starts_with("relay");
        append_elements(operations, name, std::move(changes.ended), relay ? Elements() : std::move(changes.added));
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

size_t weight(const Operation& operation) {
    if (const auto* add = std::get_if<AddElements>(&operation)) return add->elements.size();
    if (const auto* remove = std::get_if<DeleteElements>(&operation)) return remove->elements.size();
    if (const auto* replace = std::get_if<ReplaceRules>(&operation)) return std::max<size_t>(1, replace->rules.size());
    return 1;
}

/// nullopt: there is no set for a new right, or it would be too full.
std::optional<std::map<std::string, ElementChanges>> right_changes(const Fence& applied, const PolicyDelta& delta,
                                                                   Instant now) {
    std::map<std::string, ElementChanges> changes;
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
        } else if (!equal(have->second, want, jitter)) {
            set.change(have->first, have->second, want);
        }
    }
    for (const auto& [name, set] : changes) {
        const size_t after = elements_of(applied, name).size() + set.added.size() - set.ended.size();
        if (!set.added.empty() && !fits(after, applied.sets.at(name).shape.size)) return std::nullopt;
    }
    return changes;
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

size_t Changes::size() const {
    size_t sum = 0;
    for (const Transaction& transaction : transactions) {
        for (const Operation& operation : transaction.operations) sum += weight(operation);
    }
    return sum;
}

Changes difference(const Fence& actual, const Fence& desired, Instant now) {
    if (must_rebuild(actual, desired)) return rebuild(actual, desired);
    Changes changes;
    std::vector<Transaction>& all = changes.transactions;
    append(all, creations(actual, desired));
    std::map<std::string, ElementChanges> widening;
    for (const auto& [name, set] : actual.sets) {
        const auto exempt = parse_exempt_set_name(name);
        if (!exempt) continue;
        ElementChanges elements = compare(set.elements, rightful(desired, *exempt), now);
        append_chunks(all, name, elements.ended, {});
        append_chunks(all, name, elements.shortened_from, elements.shortened_to);
        if (is_ours(desired, name)) widening[name] = std::move(elements);
    }
    append(all, border_changes(actual, desired, now));
    for (const auto& [name, set] : desired.sets) {
        if (!parse_exempt_set_name(name)) continue;
        if (!actual.sets.contains(name)) widening[name] = compare({}, set.elements, now);
        append_chunks(all, name, widening[name].changed_from, widening[name].changed_to);
        append_chunks(all, name, {}, widening[name].added);
        widening.erase(name);
    }
    append(all, rule_switches(actual, desired));
    append(all, leftovers(actual, desired));
    return changes;
}

std::optional<Changes> difference(const Fence& applied, const PolicyDelta& delta, Instant now) {
    const auto rights = right_changes(applied, delta, now);
    if (!rights) return std::nullopt;
    Changes changes;
    for (const auto& [name, set] : *rights) {
        append_chunks(changes.transactions, name, set.ended, {});
        append_chunks(changes.transactions, name, set.shortened_from, set.shortened_to);
    }
    append(changes.transactions, border_changes(applied, delta, now));
    for (const auto& [name, set] : *rights) {
        append_chunks(changes.transactions, name, set.changed_from, set.changed_to);
        append_chunks(changes.transactions, name, {}, set.added);
    }
    return changes;
}

}  // namespace smtpfence
