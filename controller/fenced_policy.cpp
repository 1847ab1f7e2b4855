#include "controller/fenced_policy.hpp"

#include "subscribers/fenced.hpp"

namespace smtpfence {

Policy fenced_policy(Database& database) {
    Policy policy;
    for (const Relay& relay : relays(database)) policy.relays.push_back(relay.prefix);
    for (const Pool& pool : pools(database)) policy.pools.emplace_back(pool.prefix, pool.action);
    return policy;
}

}  // namespace smtpfence
