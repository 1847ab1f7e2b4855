#pragma once
// The part of a policy that decides whether it may be enforced at all.

#include "subscribers/policy.hpp"

namespace smtpfence {

/// Relays and pools, without rights: cheap however many customers there are. For require_relay().
Policy fenced_policy(Database&);

}  // namespace smtpfence
