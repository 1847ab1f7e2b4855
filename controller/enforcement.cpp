#include "controller/enforcement.hpp"

#include <algorithm>
#include <cerrno>
#include <map>

#include "controller/confirmed.hpp"
#include "controller/digest.hpp"
#include "rules/fence_record.hpp"
#include "rules/layout.hpp"
#include "subscribers/revision.hpp"
#include "subscribers/router.hpp"

namespace smtpfence {

namespace {

/// How often something is worked out anew because others commit all the time.
constexpr int most_restarts = 3;
/// Half of what read_delta() goes back for ends.
constexpr Seconds longest_rest{1800};

bool closes(Action action) { return action == Action::drop || action == Action::reject; }

std::string mark_of(const std::string& revision_mark) {
    Digest digest;
    digest.add(revision_mark);
    return digest.text();
}
std::string mark_of(Database& database, Revision revision) { return mark_of(revision_mark(database, revision)); }

std::optional<Refused> refusal_of(const Policy& policy, const Border& border) {
    try {
        require_relay(policy, border);
        return std::nullopt;
    } catch (const Refused& refused) {
        return refused;
    }
}

/// Relays, pools and interfaces alone.
Fence border_part(const Fence& fence) {
    Fence part;
    for (const char* const name : {"relay4", "relay6", "pool4", "pool6", "subscriber"}) {
        if (const auto set = fence.sets.find(name); set != fence.sets.end()) part.sets.insert(*set);
    }
    return part;
}

/// How many, by family and prefix length.
std::map<std::pair<Family, uint8_t>, size_t> exemptions_in(const Fence& fence) {
    std::map<std::pair<Family, uint8_t>, size_t> sums;
    for (const auto& [name, set] : fence.sets) {
        const auto exempt = parse_exempt_set_name(name);
        if (exempt && !set.elements.empty()) sums[{exempt->family, exempt->length}] += set.elements.size();
    }
    return sums;
}

}  // namespace

bool in_force(const Fence& fence) {
    const auto border = fence.chains.find("border");
    return border != fence.chains.end() && border->second.hook == Hook{} && !border->second.rules.empty();
}

void require_relay(const Policy& policy, const Border& border) {
    if (!policy.relays.empty()) return;
    const bool pool_closes =
        std::any_of(policy.pools.begin(), policy.pools.end(), [](const auto& pool) { return closes(pool.second); });
    if (!pool_closes && (border.subscriber.empty() || !closes(border.action))) return;
    throw Refused(
        Refusal::conflict,
        "no relay: a fence without one would stop all mail of the fenced lines; add the outbound relays first "
        "with 'smtpfence relay add PREFIX'");
}

Plan make_plan(Database& database, Kernel& kernel, const Border& border, const std::optional<InForce>& last,
               Guard guard, Instant now) {
    Plan plan;
    Policy policy = read_policy(database, now);
    require_relay(policy, border);
    plan.revision = policy.revision;
    plan.actual = kernel.read(last ? last->fence : Fence());
    plan.desired = compile(std::move(policy), border, plan.actual);
    if (last) {
        const Widening asked = unconfirmed(database, last->revision, widening(last->fence, plan.desired, now));
        withhold(plan.desired, last->fence, guard.judge(space_of(last->fence), asked, now));
    }
    plan.withheld = guard.withheld();
    plan.changes = difference(plan.actual, plan.desired, now);
    return plan;
}

void Enforcement::set_border(Border border) {
    border_ = std::move(border);
    compare_all_ = true;
}

void Enforcement::take(Fence expected, Comparison comparison) {
    compare_all_ = true;
    kernel_.take();
    kernel_.listen();
    generation_ = kernel_.generation();
    applied_ = kernel_.read(std::move(expected), comparison);
    dead_.clear();
    sweep_ = comparison == Comparison::numbers ? std::optional(Position{}) : std::nullopt;
    asks_first_ = false;
    touched_ = {};
    space_.reset();
    refresh_next_end();
    if (note_take_) note_take_();
}

bool Enforcement::take(InForce last) {
    const Fence border = border_part(last.fence);
    const auto exemptions = exemptions_in(last.fence);
    take(std::move(last.fence), Comparison::numbers);
    if (!same_record(border, border_part(applied_)) || exemptions_in(applied_) != exemptions) return false;
    revision_ = last.revision;
    mark_ = std::move(last.mark);
    return true;
}

bool Enforcement::resume(const InForce& last, Instant now) {
    if (last.revision == 0 || last.mark.empty() || !same_record(last.fence, applied_)) return false;
    if (outline(compile(overview({}), border_, applied_)) != outline(applied_)) return false;
    revision_ = last.revision;
    mark_ = last.mark;
    seen_ = now;  // what ended until then is in neither of them
    compare_all_ = false;
    return true;
}

size_t Enforcement::restore(Fence fence, Instant now) { return bring_to(std::move(fence), now, false).changes; }

/// Where no fence is in force yet, rules come last, behind all exemptions. What the kernel has no room for must not
/// keep what closes from being there.
Pass Enforcement::bring_to(Fence desired, Instant now, bool noted) {
    if (in_force(applied_)) {
        auto fillings = take_fillings(applied_, desired, replaced_from_);
        Pass pass = commit(difference(applied_, std::move(desired), now), noted);
        for (auto& [set, elements] : fillings) fill(set, std::move(elements), now, noted, pass);
        return pass;
    }
    const Fence border = outline(desired);
    try {
        return commit(difference(applied_, std::move(desired), now), noted);
    } catch (const KernelError&) {
        if (!in_force(applied_)) commit(difference(applied_, with_border(border, applied_), now), noted);
        throw;
    }
}

/// Somebody who commits between reading and writing makes it start again from what he made of the table.
Pass Enforcement::follow(Database& database, Instant now, PolicyReading* reading) {
    for (int attempt = 0;; ++attempt) {
        try {
            return follow_once(database, now, reading);
        } catch (const KernelError& error) {
            if (error.code != ERESTART || attempt == most_restarts) throw;
            verify(now, false);
        }
    }
}

Pass Enforcement::follow_once(Database& database, Instant now, PolicyReading* reading) {
    Pass pass;
    // Another history may have the same numbers: a delta would start from what this kernel never enforced.
    if (!compare_all_ && revision_ && mark_of(database, *revision_) == mark_) {
        if (auto delta = read_delta(database, *revision_, seen_, now, delta_limit)) {
            std::optional<Refused> refused;
            if (delta->relays || delta->pools) refused = refusal_of(overview(*delta), border_);
            if (refused) {
                delta->relays.reset();
                delta->pools.reset();
            }
            auto changes = harmless(database, *delta, now) ? difference(applied_, *delta, now) : std::nullopt;
            if (changes) {
                pass = commit(std::move(*changes));
                guard_.passed(now);
                if (refused) throw *refused;
                pass.revision = delta->revision;
                note_revision(database, delta->revision, now);
                return pass;
            }
        }
    }
    if (reading) reading->help(database);
    Policy policy = whole_policy(database, now, reading);
    const std::optional<Refused> refused = refusal_of(policy, border_);
    touched_ = hear();
    if (!touched_.nothing()) {
        if (revision_ && !last_) last_ = InForce{applied_, *revision_, mark_};  // whatever somebody left of it
        take(applied_);
    }
    if (refused) {
        if (applied_.empty()) throw *refused;
        Policy in_force = overview({});
        policy.relays = std::move(in_force.relays);
        policy.pools = std::move(in_force.pools);
        require_relay(policy, border_);
    }
    const Revision revision = policy.revision;
    Fence desired = compile(std::move(policy), border_, applied_);
    while (asks_first_ && sweeping()) ask(desired, now);
    pass = replace_sets(desired, now);  // what ends needs no guard, and the kernel is at it meanwhile
    hold_back(database, desired, now);
    adopt_ends(applied_, desired, now);
    const Pass rest = bring_to(std::move(desired), now);
    pass.changes += rest.changes;
    pass.transactions += rest.transactions;
    if (std::exchange(asks_first_, false)) pass.changes += heal_surplus(now);
    guard_.passed(now);
    if (refused) throw *refused;
    last_.reset();
    pass.revision = revision;
    note_revision(database, revision, now);
    compare_all_ = false;
    pass.full = true;
    return pass;
}

/// Whatever the kernel refuses here (it may have no memory for a second set) goes element by element behind it, so that
/// no revocation waits.
Pass Enforcement::replace_sets(Fence& desired, Instant now) {
    Replacement whole = replacement(applied_, desired, now, replaced_from_);
    if (whole.changes.empty()) return {};
    try {
        const Pass pass = commit(std::move(whole.changes));
        adopt(whole.successors, desired);
        return pass;
    } catch (const KernelError&) {
        return {};
    }
}

Policy Enforcement::whole_policy(Database& database, Instant now, PolicyReading* reading) const {
    auto whole = reading ? reading->take() : std::nullopt;
    if (whole && revision_mark(database, whole->policy.revision) == whole->mark) {
        if (auto since = read_delta(database, whole->policy.revision, whole->time, now, delta_limit)) {
            bring_up(whole->policy, std::move(*since));
            return std::move(whole->policy);
        }
    }
    whole.reset();
    return read_policy(database, now);
}

/// Whether the guard has nothing against the delta, so that it can go as it is.
bool Enforcement::harmless(Database& database, const PolicyDelta& delta, Instant now) {
    if (guard_.withheld() || last_) return false;
    Widening asked;
    if (delta.relays || delta.pools) {
        const Fence before = border_part(applied_);
        Fence after = before;
        if (delta.relays) fill_relays(after, *delta.relays);
        if (delta.pools) fill_pools(after, *delta.pools);
        asked = widening(before, after, now);
    }
    for (const auto& [prefix, until] : delta.rights) {
        if (until && *until > now && !is_exempt(applied_, prefix, now)) asked.exempted.push_back(prefix);
    }
    if (asked.empty()) return true;
    if (!space_) space_ = space_of(applied_);
    return guard_.judge(*space_, unconfirmed(database, *revision_, std::move(asked)), now).empty();
}

void Enforcement::hold_back(Database& database, Fence& desired, Instant now) {
    if (!last_ && !revision_) return;  // a router that never had a fence
    const Fence& before = last_ ? last_->fence : applied_;
    const Revision since = last_ ? last_->revision : *revision_;
    const Widening asked = unconfirmed(database, since, widening(before, desired, now));
    withhold(desired, before, guard_.judge(space_of(before), asked, now));
}

void Enforcement::note_revision(Database& database, Revision revision, Instant now) {
    mark_ = mark_of(database, revision);
    revision_ = revision;
    seen_ = now;
}

Policy Enforcement::overview(const PolicyDelta& delta) const {
    Policy policy;
    for (const auto& [name, kind] : {std::pair{"relay4", KeyKind::ipv4}, {"relay6", KeyKind::ipv6}}) {
        if (const auto set = applied_.sets.find(name); set != applied_.sets.end()) {
            for (const auto& [key, held] : set->second.elements) policy.relays.push_back(to_prefix(key, kind));
        }
    }
    for (const auto& [name, kind] : {std::pair{"pool4", KeyKind::ipv4}, {"pool6", KeyKind::ipv6}}) {
        if (const auto set = applied_.sets.find(name); set != applied_.sets.end()) {
            for (const auto& [key, held] : set->second.elements) {
                policy.pools.emplace_back(to_prefix(key, kind), held.action.value_or(Action::drop));
            }
        }
    }
    if (delta.relays) policy.relays = *delta.relays;
    if (delta.pools) policy.pools = *delta.pools;
    return policy;
}

void Enforcement::refresh_next_end() {
    next_end_ = never;
    for (const auto& [name, set] : applied_.sets) {
        if (!set.shape.timeouts || set.shape.dynamic) continue;
        for (const auto& [key, held] : set.elements) next_end_ = std::min<Instant>(next_end_, held.until);
    }
}

bool Enforcement::wants_pass(Instant now) const { return revision_ && now - seen_ >= longest_rest; }

bool Enforcement::fenced() const { return revision_ || in_force(applied_); }

std::optional<Instant> Enforcement::next_end() const {
    return next_end_ == never ? std::nullopt : std::optional(next_end_);
}

size_t Enforcement::expire(Instant now) {
    if (now < next_end_) return 0;
    Transaction transaction;
    std::vector<DeleteElements> gone;
    size_t ended = 0;
    for (const auto& [name, set] : applied_.sets) {
        if (!set.shape.timeouts || set.shape.dynamic) continue;
        DeleteElements over{name, {}};
        for (const auto& element : set.elements) {
            if (element.second.until <= now) over.elements.push_back(element);
        }
        if (over.elements.empty()) continue;
        ended += over.elements.size();
        transaction.operations.emplace_back(over);
        gone.push_back(std::move(over));
    }
    if (ended > 0) commit(Changes{{std::move(transaction)}});
    for (const DeleteElements& over : gone) {
        Set& set = applied_.sets[over.set];
        set.ended.insert(over.elements.begin(), over.elements.end());  // what ends by itself can't be deleted any more
        forget_collected(set, now);
    }
    refresh_next_end();
    return ended;
}

size_t Enforcement::clock_stepped(Instant now) {
    compare_all();  // the change log is read from the time of the last pass on, by another clock
    size_t changes = expire(now);
    changes += verify(now, true);
    while (sweeping()) changes += sweep(now, 1000);
    refresh_next_end();
    return changes;
}

}  // namespace smtpfence
