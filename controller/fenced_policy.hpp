#pragma once
// The part of a policy that decides whether it may be enforced at all.

#include "controller/invocation.hpp"
#include "rules/fence.hpp"
#include "subscribers/policy.hpp"

namespace smtpfence {

/// Relays and pools, without rights: cheap however many customers there are. For require_relay().
Policy fenced_policy(Database&);

/// Whether relays or pools were changed.
bool moves_border(const Change&);

/// Before a change is committed: throws Refused (conflict) when it removes the last relay while the database or this
/// configuration fences.
void require_relay_left(Invocation&, const Change&);

/// After relays or pools were changed: says what is legal and unlikely to be meant. What the configuration fences is
/// left out: the commands that write need none, and `check` looks at it.
void warn_doubts(Invocation&);

/// Why no router can enforce what the database asks, with the next step; nullopt: nothing is in the way.
std::optional<std::string> unenforceable(Database&, const Border&);

}  // namespace smtpfence
