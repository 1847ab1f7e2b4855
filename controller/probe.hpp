#pragma once
// Real packets through a policy's table, on a router that exists only for them: which packets, what the policy says
// about each, and what the kernel did.
//
//   const ProbePlan plan = plan_probe(policy, border, now());
//   ScratchNetwork network(plan.interfaces());
//   require_paths(network, plan);                    // without a table all of them arrive
//   enforce(*open_kernel(), policy, border, now());
//   verdict(network, plan.cases.front());
//
// What is expected is said here in the policy's words (policy.md), not by asking the rules.

#include <optional>
#include <string>
#include <vector>

#include "rules/kernel.hpp"
#include "rules/packet.hpp"
#include "rules/scratch_network.hpp"
#include "subscribers/policy.hpp"

namespace smtpfence {

enum class Verdict : uint8_t { pass, drop, reject };
const char* word(Verdict);

struct ProbeCase {
    std::string about;             ///< class: consumer, expert, relay, outside, spoofed ...
    std::optional<Action> action;  ///< of the pool or of [interfaces]; nullopt: no fence has a say
    bool outbound = true;          ///< from the line to the internet
    Packet packet;                 ///< without its number
    uint16_t port = 0;             ///< the service's
    std::string in, out;           ///< interfaces
    std::string home;              ///< to which the source is routed: `in`, unless it is spoofed
    Verdict expected = Verdict::pass;
};
/// "consumer (drop), IPv4 outbound syn from 100.64.0.1 to 198.51.100.1 port 25 by bng0"
std::string text(const ProbeCase&);

struct ProbePlan {
    std::vector<std::string> subscriber;  ///< interfaces that [interfaces] names, one for each of its patterns
    std::string other, internet;          ///< interfaces that it does not name
    std::vector<ProbeCase> cases;
    std::vector<std::string> left_out;  ///< what this policy has no address for, one sentence each
    std::vector<std::string> interfaces() const;
};

/// Costs a look at each right.
ProbePlan plan_probe(const Policy&, const Border&, Instant now);

/// Throws std::runtime_error for a packet of the plan that does not come out even without a table: its drop would prove
/// nothing.
void require_paths(ScratchNetwork&, const ProbePlan&);

/// Makes the policy's table in the kernel, as `apply` does on a router that has none.
void enforce(Kernel&, const Policy&, const Border&, Instant now);

/// What becomes of the packet.
Verdict verdict(ScratchNetwork&, const ProbeCase&);

}  // namespace smtpfence
