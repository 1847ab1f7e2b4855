#pragma once
// Real addresses of one policy for `probe` to send packets from and to: one for each class that the policy has. Chosen
// from the policy alone, not from the table compiled of it.

#include <map>
#include <optional>
#include <string>

#include "subscribers/policy.hpp"

namespace smtpfence {

/// Single addresses of one family.
struct Samples {
    std::map<Action, Prefix> consumers;  ///< in a pool of that action; neither exempt nor relay
    std::optional<Prefix> expert;        ///< exempt for another minute at least; in a fenced pool, where there is one
    std::optional<Prefix> relay;
    std::optional<Prefix> server;   ///< a foreign mail server: outside every pool, relay and right
    std::optional<Prefix> outside;  ///< another such address
};

/// Costs a look at each right.
Samples samples(const Policy&, Family, Instant now);

}  // namespace smtpfence
