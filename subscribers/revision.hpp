#pragma once
// What the log knows of one revision as a whole; its changes are in audit.hpp.

#include <optional>
#include <string>

#include "subscribers/change.hpp"

namespace smtpfence {

/// When it was committed; nullopt: no revision has that number.
std::optional<Instant> revision_time(Database&, Revision);

/// What tells a revision from one of the same number in another history (a restored backup that went on): its row and
/// its first change. "" when no revision has that number.
std::string revision_mark(Database&, Revision);

}  // namespace smtpfence
