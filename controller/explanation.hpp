#pragma once
// One answer for the desk: what the fence does with port 25 of a line, by which rule, and whose line it is. Now, in the
// past (from the change log) or at a time to come (if nothing changes until then).

#include "controller/output.hpp"
#include "rules/judgement.hpp"
#include "rules/kernel.hpp"
#include "subscribers/customer.hpp"

namespace smtpfence {

/// What the database says about one line at one time.
struct Circumstances {
    std::optional<Assignment> held;      ///< who holds it
    std::optional<Exemption> exemption;  ///< the holder's last one until then, active or not
    std::optional<Pool> pool;            ///< the longest that contains it
    Policy policy;                       ///< as far as it concerns the line and `to`
};

/// `line` and `to` are single addresses. Throws DatabaseError.
Circumstances circumstances(Database&, const Prefix& line, const std::optional<Prefix>& to, Instant at, Instant now);

/// The verdict that the database asks for.
Judgement desired_judgement(const Circumstances&, const Border&, const Prefix& line, const std::optional<Prefix>& to);

/// Whether the kernel holds any of these relays and pools, asked by key: else there is no table of ours. Throws
/// KernelError.
bool holds_any(Kernel&, const std::vector<Prefix>& relays, const std::vector<Prefix>& pools);

/// The verdict that the kernel gives, asked by key; without a table everything passes. Throws KernelError.
Judgement kernel_judgement(Kernel&, const Prefix& line, const std::optional<Prefix>& to);

/// What lies inside `prefix` and may have an answer of its own: the first few pools, relays and assignments, for
/// people.
std::vector<std::string> parts_inside(Database&, const Prefix&, Instant at);

}  // namespace smtpfence
