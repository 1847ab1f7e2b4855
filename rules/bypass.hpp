#pragma once
// Ways past the fence that stand open around it: what a router can't fence by rules in the forward hook, and so has to
// be told to its operator. Values only; surroundings.hpp reads them.

#include <string>
#include <vector>

#include "rules/surroundings.hpp"

namespace smtpfence {

/// A warning for each way, with the thing, the reason and the next step; in a fixed order. `subscriber` as in
/// [interfaces] subscriber; when it is empty, only what concerns every interface can be told.
std::vector<std::string> bypasses(const Surroundings&, const std::vector<std::string>& subscriber);

}  // namespace smtpfence
