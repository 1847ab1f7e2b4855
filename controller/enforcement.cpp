#include "controller/enforcement.hpp"

#include <algorithm>

#include "rules/layout.hpp"
#include "subscribers/revision.hpp"
#include "subscribers/router.hpp"

namespace smtpfence {

namespace {

bool closes(Action action) { return action == Action::drop || action == Action::reject; }

std::optional<Refused> refusal_of(const Policy& policy, const Border& border) {
    try {
        require_relay(policy, border);
        return std::nullopt;
    } catch (const Refused& refused) {
        return refused;
    }
}

/// What was confirmed together with the revisions that `last` does not know.
Widening unconfirmed(Database& database, Widening asked, Revision last) {
    if (asked.empty()) return asked;
    return without(asked, parse_widening(confirmed_openings(database, last)));
}

Widening withheld_part(Guard& guard, Database& database, const Fence& before, Revision revision, const Fence& desired,
                       Instant now) {
    return guard.judge(space_of(before), unconfirmed(database, widening(before, desired, now), revision), now);
}

/// Relays and pools alone.
Fence border_part(const Fence& fence) {
    Fence part;
    for (const char* const name : {"relay4", "relay6", "pool4", "pool6"}) {
        if (const auto set = fence.sets.find(name); set != fence.sets.end()) part.sets.insert(*set);
    }
    return part;
}

/// Whether it changes relays or pools.
bool moves_border(const Transaction& transaction) {
    return std::any_of(transaction.operations.begin(), transaction.operations.end(), [](const Operation& operation) {
        const auto* add = std::get_if<AddElements>(&operation);
        const auto* remove = std::get_if<DeleteElements>(&operation);
        return (add && !parse_exempt_set_name(add->set)) || (remove && !parse_exempt_set_name(remove->set));
    });
}

}  // namespace

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
    plan.actual = kernel.read();
    plan.desired = compile(std::move(policy), border, plan.actual);
    if (last)
        withhold(plan.desired, last->fence,
                 withheld_part(guard, database, last->fence, last->revision, plan.desired, now));
    plan.withheld = guard.withheld();
    plan.changes = difference(plan.actual, plan.desired, now);
    return plan;
}

void Enforcement::set_border(Border border) {
    border_ = std::move(border);
    compare_all_ = true;
}

void Enforcement::take() {
    kernel_.take();
    reread();
}

size_t Enforcement::restore(Fence fence, Instant now) {
    return commit(difference(applied_, std::move(fence), now), false).changes;
}

void Enforcement::reread() {
    compare_all_ = true;
    generation_ = kernel_.generation();
    applied_ = kernel_.read();
    space_.reset();
    refresh_next_end();
}

Pass Enforcement::follow(Database& database, Instant now) {
    Pass pass;
    // Another history may have the same numbers: a delta would start from what this kernel never enforced.
    if (!compare_all_ && revision_ && revision_mark(database, *revision_) == mark_) {
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
    Policy policy = read_policy(database, now);
    const std::optional<Refused> refused = refusal_of(policy, border_);
    if (kernel_.generation() != generation_) {
        if (revision_ && !last_) last_ = InForce{applied_, *revision_};  // whatever somebody left of it
        take();
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
    hold_back(database, desired, now);
    Changes changes = difference(applied_, std::move(desired), now);
    pass = commit(std::move(changes));
    guard_.passed(now);
    if (refused) throw *refused;
    last_.reset();
    pass.revision = revision;
    note_revision(database, revision, now);
    compare_all_ = false;
    pass.full = true;
    return pass;
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
    return guard_.judge(*space_, unconfirmed(database, std::move(asked), *revision_), now).empty();
}

void Enforcement::hold_back(Database& database, Fence& desired, Instant now) {
    if (!last_ && !revision_) return;  // a router that never had a fence
    const Fence& before = last_ ? last_->fence : applied_;
    withhold(desired, before,
             withheld_part(guard_, database, before, last_ ? last_->revision : *revision_, desired, now));
}

void Enforcement::note_revision(Database& database, Revision revision, Instant now) {
    mark_ = revision_mark(database, revision);
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

Pass Enforcement::commit(Changes changes, bool noted) {
    Pass pass;
    pass.changes = changes.size();
    for (Transaction& transaction : changes.transactions) {
        const uint32_t before = kernel_.generation();
        try {
            kernel_.commit(transaction);
        } catch (...) {
            // Whether a failure left a trace or the mirror was wrong: the next pass reads the kernel and compares
            // everything.
            compare_all_ = true;
            generation_ = before - 1;
            throw;
        }
        if (noted && note_) note_(transaction);
        if (moves_border(transaction)) space_.reset();
        perform(applied_, transaction);
        note_ends(transaction);
        const uint32_t after = kernel_.generation();
        // A foreign commit in between leaves generation_ behind, and verify() looks closer.
        if (before == generation_ && after - before <= 1) generation_ = after;
        ++pass.transactions;
        transaction = {};
    }
    return pass;
}

void Enforcement::note_ends(const Transaction& transaction) {
    for (const Operation& operation : transaction.operations) {
        const auto* added = std::get_if<AddElements>(&operation);
        if (!added) continue;
        for (const auto& [key, held] : added->elements) next_end_ = std::min(next_end_, held.until);
    }
}

void Enforcement::refresh_next_end() {
    next_end_ = never;
    for (const auto& [name, set] : applied_.sets) {
        if (!set.shape.timeouts || set.shape.dynamic) continue;
        for (const auto& [key, held] : set.elements) next_end_ = std::min(next_end_, held.until);
    }
}

bool Enforcement::fenced() const {
    if (revision_) return true;
    const auto border = applied_.chains.find("border");
    return border != applied_.chains.end() && !border->second.rules.empty();
}

std::optional<Instant> Enforcement::next_end() const {
    return next_end_ == never ? std::nullopt : std::optional(next_end_);
}

size_t Enforcement::expire(Instant now) {
    if (now < next_end_) return 0;
    Transaction transaction;
    size_t ended = 0;
    for (const auto& [name, set] : applied_.sets) {
        if (!set.shape.timeouts || set.shape.dynamic) continue;
        DeleteElements over{name, {}};
        for (const auto& element : set.elements) {
            if (element.second.until <= now) over.elements.push_back(element);
        }
        ended += over.elements.size();
        if (!over.elements.empty()) transaction.operations.emplace_back(std::move(over));
    }
    if (ended > 0) commit(Changes{{std::move(transaction)}});
    refresh_next_end();
    return ended;
}

size_t Enforcement::clock_stepped(Instant now) {
    compare_all();  // the change log is read from the time of the last pass on, by another clock
    const size_t ended = expire(now);
    const size_t moved = verify(now, true);
    refresh_next_end();
    return ended + moved;
}

/// However many exemptions were lost with it, what closes comes back first and is neither read nor written with them.
size_t Enforcement::heal_outline(Fence expected, Instant now) {
    generation_ = kernel_.generation();
    applied_ = kernel_.read_outline();
    if (applied_.empty()) {
        kernel_.take();
        generation_ = kernel_.generation();
        applied_ = kernel_.read_outline();
    }
    return commit(difference(applied_, std::move(expected), now), false).changes;
}

size_t Enforcement::verify(Instant now, bool thorough) {
    if (!thorough && kernel_.generation() == generation_) return 0;
    const Fence expected = std::move(applied_);
    const bool comparing_all = compare_all_;
    try {
        size_t healed = heal_outline(outline(expected), now);
        reread();
        healed += commit(difference(applied_, expected, now), false).changes;
        compare_all_ = comparing_all;
        return healed;
    } catch (...) {
        // What is not put right yet still has to be: the next call begins anew, database or not.
        applied_ = expected;
        compare_all_ = true;
        generation_ = kernel_.generation() - 1;
        throw;
    }
}

}  // namespace smtpfence
