#pragma once
// The verdict that the table gives a packet, computed by the same steps over any place that answers "which element
// covers this address": a Fence value, or the kernel asked by key. For `explain`.

#include <functional>

#include "rules/fence.hpp"

namespace smtpfence {

struct Judgement {
    Action verdict = Action::pass;  ///< drop, reject, observe; pass: not fenced
    std::string rule;               ///< the deciding rule as nft prints it; "no rule: not fenced" at the end
    std::string element;            ///< "100.64.0.0/16 in pool4"; empty when none decided
    bool exempt = false;            ///< decided by an exemption
    std::optional<Instant> until;   ///< the element's own end
};

/// Answers for one set: the element that covers the address.
using Lookup = std::function<std::optional<std::pair<Key, Held>>(const std::string& set, const Key& address)>;
Lookup lookup_in(const Fence&);  ///< the fence must outlive it

/// Verdict for tcp from `line` to port 25 of `to` (nullopt: a foreign address, no relay). `sets`: names of the sets to
/// consult, in rule order; taken from the fence that was applied or compiled.
Judgement judge(const Fence& layout, const Lookup&, const Prefix& line, const std::optional<Prefix>& to);

}  // namespace smtpfence
