#pragma once
// What the log knows of one revision as a whole; its changes are in audit.hpp.

#include <optional>

#include "subscribers/change.hpp"

namespace smtpfence {

/// When it was committed; nullopt: no revision has that number.
std::optional<Instant> revision_time(Database&, Revision);

}  // namespace smtpfence
