#pragma once
// The part of a policy that decides whether it may be enforced at all.

#include "rules/fence.hpp"
#include "subscribers/policy.hpp"

namespace smtpfence {

/// Relays and pools, without rights: cheap however many customers there are. For require_relay().
Policy fenced_policy(Database&);

/// Why no router can enforce what the database asks, with the next step; nullopt: nothing is in the way.
std::optional<std::string> unenforceable(Database&, const Border&);

}  // namespace smtpfence
