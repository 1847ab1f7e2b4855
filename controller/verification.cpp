// Enforcement's other half: what others do to the table is heard of, looked at and put right.

#include <algorithm>

#include "controller/enforcement.hpp"
#include "rules/layout.hpp"

namespace smtpfence {

namespace {

constexpr size_t asked_at_once = 1000;

/// Of what ended, the kernel collects what was over when its walk began.
void forget_oldest(Elements& ended, size_t number) {
    std::vector<std::pair<Instant, Key>> by_end;
    for (const auto& [key, held] : ended) by_end.emplace_back(held.until, key);
    std::sort(by_end.begin(), by_end.end());
    by_end.resize(std::min(number, by_end.size()));
    for (const auto& oldest : by_end) ended.erase(oldest.second);
}

std::vector<std::string> deleted_sets(const Changes& changes) {
    std::vector<std::string> names;
    for (const Transaction& transaction : changes.transactions) {
        for (const Operation& operation : transaction.operations) {
            if (const auto* gone = std::get_if<DeleteSet>(&operation)) names.push_back(gone->name);
        }
    }
    return names;
}

/// Whether sets and chains are named as this program names them; those of an earlier one are replaced by a pass.
bool of_this_layout(const Fence& fence) {
    const auto chains = chains_with({});
    return std::all_of(fence.chains.begin(), fence.chains.end(),
                       [&](const auto& entry) { return chains.contains(entry.first); }) &&
           std::all_of(fence.sets.begin(), fence.sets.end(), [](const auto& entry) {
               const auto exempt = parse_exempt_set_name(entry.first);
               return !exempt || exempt_set_name(exempt->family, exempt->length, exempt->capacity) == entry.first;
           });
}

}  // namespace

size_t Enforcement::mend(const Fence& last, Instant now) {
    if (!of_this_layout(applied_)) return 0;
    const Fence have = outline(applied_);
    Fence whole = with_border(have, have);
    for (auto& [name, set] : whole.sets) {
        const auto known = last.sets.find(name);
        if (set.elements.empty() && known != last.sets.end() && !parse_exempt_set_name(name))
            set.elements = known->second.elements;
    }
    Changes changes = difference(have, whole, now);
    if (!deleted_sets(changes).empty()) changes = difference(applied_, with_border(whole, applied_), now);
    return commit(std::move(changes), false).changes;
}

/// What others touched that is not put right yet. Our own commits and those that were heard of account for each number
/// of the kernel's; where one is missing, it is not told what happened.
Touched Enforcement::hear() {
    Touched touched = std::exchange(touched_, {});
    const uint32_t present = kernel_.generation();
    if (kernel_.owned()) {
        generation_ = present;
        return touched;
    }
    for (ForeignCommit& commit : kernel_.foreign_commits()) {
        if (commit.generation == generation_ + 1) ++generation_;
        culprits_.hear(commit);
        touched.merge(std::move(commit.touched));
    }
    if (static_cast<int32_t>(present - generation_) > 0) {
        touched.everything = true;
        generation_ = present;
    }
    return touched;
}

size_t Enforcement::verify(Instant now, bool thorough) {
    Touched touched = hear();
    if (thorough) {
        touched.outline = true;
        if (!sweep_) sweep_ = Position{};
    }
    if (touched.nothing()) return 0;
    try {
        return put_right(touched, now);
    } catch (...) {
        touched_.merge(std::move(touched));  // the next call begins anew, database or not
        throw;
    }
}

size_t Enforcement::put_right(const Touched& touched, Instant now) {
    size_t healed = 0;
    if (touched.outline || touched.everything) healed += heal_outline(touched.remade, now);
    for (const auto& [set, keys] : touched.exemptions) healed += heal_exemptions(set, keys, now);
    if (touched.everything) {
        if (!kernel_.count("relay4")) return healed + heal_by_reading(now);
        sweep_ = Position{};
        while (sweeping()) healed += sweep(now, asked_at_once);
    }
    return healed;
}

/// However many exemptions were lost with it, what closes comes back first and is neither read nor written with them.
/// Of `remade` sets that are there, nobody knows what they hold.
size_t Enforcement::heal_outline(const std::set<std::string>& remade, Instant now) {
    Fence expected = std::move(applied_);
    std::set<std::string> lost, kept;
    size_t healed = 0;
    try {
        applied_ = kernel_.read_outline();
        if (!in_force(applied_)) {  // gone, or dormant
            const uint32_t before = kernel_.generation();
            kernel_.take();
            account_for(before);
            applied_ = kernel_.read_outline();
            if (in_force(applied_)) ++healed;  // it lay dormant
        }
        for (const auto& [name, set] : expected.sets) {
            const auto found = applied_.sets.find(name);
            if (!parse_exempt_set_name(name)) continue;
            (found == applied_.sets.end() || found->second.shape != set.shape ? lost : kept).insert(name);
        }
        Changes changes = difference(applied_, outline(expected), now);
        for (const std::string& name : deleted_sets(changes)) {
            if (kept.erase(name) > 0) lost.insert(name);
        }
        healed += commit(std::move(changes), false).changes;
        healed += fill_again(expected, lost, now);
    } catch (...) {
        applied_ = std::move(expected);
        touched_.everything = true;  // what is missing in sets that are there again
        throw;
    }
    bool unknown = false;
    for (const std::string& name : kept) {
        applied_.sets[name].elements = std::move(expected.sets[name].elements);
        applied_.sets[name].ended = std::move(expected.sets[name].ended);
        unknown = unknown || remade.contains(name);
    }
    if (unknown) healed += heal_by_reading(now);
    return healed;
}

/// Exemptions of `expected` into the sets `names`, which are empty.
size_t Enforcement::fill_again(const Fence& expected, const std::set<std::string>& names, Instant now) {
    Fence empty, missing;
    for (const std::string& name : names) {
        missing.sets[name] = expected.sets.at(name);
        empty.sets[name].shape = missing.sets[name].shape;
    }
    return commit(difference(empty, std::move(missing), now), false).changes;
}

/// Of `keys`, what the kernel has and what it should have.
size_t Enforcement::heal_exemptions(const std::string& name, std::span<const Key> keys, Instant now) {
    const auto set = applied_.sets.find(name);
    if (set == applied_.sets.end()) return 0;
    const auto held = kernel_.held(name, keys);
    const Elements& elements = set->second.elements;
    Fence have, want;
    have.sets[name].shape = want.sets[name].shape = set->second.shape;
    auto expected = elements.end();
    for (size_t i = 0; i < keys.size(); ++i) {
        // A sweep's keys stand one behind the other.
        if (expected == elements.end() || ++expected == elements.end() || expected->first != keys[i])
            expected = elements.find(keys[i]);
        const bool wanted = expected != elements.end();
        if (held[i] && wanted && may_stay(*held[i], expected->second, now)) continue;
        if (!held[i] && wanted && expected->second.until - now <= ending) continue;
        if (held[i]) have.sets[name].elements.emplace(keys[i], *held[i]);
        if (wanted) want.sets[name].elements.insert(*expected);
    }
    return commit(difference(have, std::move(want), now), false).changes;
}

size_t Enforcement::heal_by_reading(Instant now) {
    const Fence actual = kernel_.read(applied_);
    for (const auto& [name, set] : actual.sets) {
        if (const auto known = applied_.sets.find(name); known != applied_.sets.end()) known->second.ended = set.ended;
    }
    const size_t healed = commit(difference(actual, applied_, now), false).changes;
    note_dead();
    return healed;
}

std::optional<Enforcement::Portion> Enforcement::next_portion(size_t most) const {
    if (!sweep_) return std::nullopt;
    auto set = applied_.sets.lower_bound(sweep_->set);
    while (set != applied_.sets.end() && !parse_exempt_set_name(set->first)) ++set;
    if (set == applied_.sets.end()) return std::nullopt;
    Portion portion{set->first, {}};
    const Elements& elements = set->second.elements;
    const bool goes_on = portion.set == sweep_->set && sweep_->behind;
    auto element = goes_on ? elements.upper_bound(*sweep_->behind) : elements.begin();
    for (; element != elements.end() && portion.keys.size() < most; ++element) portion.keys.push_back(element->first);
    return portion;
}

void Enforcement::swept(const Portion& portion) {
    if (portion.keys.empty()) {
        sweep_ = Position{portion.set + '\0', {}};  // the name behind it
    } else {
        sweep_ = Position{portion.set, portion.keys.back()};
    }
}

size_t Enforcement::sweep(Instant now, size_t most) {
    const auto portion = next_portion(most);
    if (!portion) {
        sweep_.reset();
        return 0;
    }
    size_t healed = 0;
    if (!portion->keys.empty()) {
        healed = heal_exemptions(portion->set, portion->keys, now);
    } else if (in_surplus(portion->set, now)) {
        healed = heal_by_reading(now);
    }
    swept(*portion);
    return healed;
}

/// Of the sweep's next exemptions, those that `desired` has, as the kernel holds them.
void Enforcement::ask(const Fence& desired, Instant now) {
    const auto portion = next_portion(asked_at_once);
    if (!portion) return sweep_.reset();
    Set& set = applied_.sets[portion->set];
    std::vector<Key> staying = portion->keys;
    if (!staying.empty()) {
        const auto name = exempt_set_of(desired, to_prefix(staying.front(), set.shape.key));
        static const Elements none;
        const Elements& stay = name ? desired.sets.at(*name).elements : none;
        auto next = stay.lower_bound(staying.front());  // both stand in the same order
        std::erase_if(staying, [&](const Key& key) {
            while (next != stay.end() && next->first < key) ++next;
            return next == stay.end() || next->first != key;
        });
    }
    const auto held = kernel_.held(portion->set, staying);
    for (size_t i = 0; i < staying.size(); ++i) {
        if (held[i]) {
            set.elements[staying[i]] = *held[i];
        } else {
            if (revision_ && !last_) last_ = InForce{applied_, *revision_, mark_};  // what the kernel was taken for
            const auto gone = set.elements.find(staying[i]);
            if (gone->second.until - now <= ending) set.ended.insert(*gone);
            set.elements.erase(gone);
        }
    }
    swept(*portion);
}

size_t Enforcement::heal_surplus(Instant now) {
    const bool any = std::any_of(applied_.sets.begin(), applied_.sets.end(), [&](const auto& set) {
        return parse_exempt_set_name(set.first) && in_surplus(set.first, now);
    });
    return any ? heal_by_reading(now) : 0;
}

/// Whether the kernel counts more than it should hold.
bool Enforcement::in_surplus(const std::string& name, Instant now) {
    const auto count = kernel_.count(name);
    if (!count) return false;
    Set& set = applied_.sets[name];
    forget_collected(set, now);
    if (*count < set.elements.size() + set.ended.size())
        forget_oldest(set.ended, set.elements.size() + set.ended.size() - *count);
    const size_t known = set.elements.size() + set.ended.size();
    size_t& dead = dead_[name];
    dead = std::min(dead, *count - std::min<size_t>(known, *count));
    return *count > known + dead;
}

/// After a reading that showed all that there is.
void Enforcement::note_dead() {
    for (const auto& [name, set] : applied_.sets) {
        if (!parse_exempt_set_name(name)) continue;
        const size_t count = kernel_.count(name).value_or(0);
        dead_[name] = count - std::min(set.elements.size() + set.ended.size(), count);
    }
}

}  // namespace smtpfence
