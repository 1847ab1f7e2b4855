#include "controller/fenced_policy.hpp"

#include <fmt/format.h>

#include "controller/enforcement.hpp"
#include "subscribers/fenced.hpp"

namespace smtpfence {

Policy fenced_policy(Database& database) {
    Policy policy;
    for (const Relay& relay : relays(database)) policy.relays.push_back(relay.prefix);
    for (const Pool& pool : pools(database)) policy.pools.emplace_back(pool.prefix, pool.action);
    return policy;
}

bool moves_border(const Change& change) { return change.touched(Object::relay) || change.touched(Object::pool); }

void require_relay_left(Invocation& run, const Change& change) {
    if (!change.touched(Object::relay) || !relays(run.database()).empty()) return;
    require_relay(fenced_policy(run.database()), run.configuration().border);
}

void warn_doubts(Invocation& run) {
    if (const auto why = unenforceable(run.database(), {})) run.output().warn(*why);
    for (const std::string& doubt : doubts(relays(run.database()), pools(run.database()))) run.output().warn(doubt);
}

std::optional<std::string> unenforceable(Database& database, const Border& border) {
    try {
        require_relay(fenced_policy(database), border);
        return std::nullopt;
    } catch (const Refused& refusal) {
        return fmt::format("no router enforces the fence: {}", refusal.what());
    }
}

}  // namespace smtpfence
