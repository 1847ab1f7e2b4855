#pragma once
// What can go wrong, as four types: a request that can't be granted, and one for each boundary
// (database here; kernel in rules/kernel.hpp; configuration in controller/configuration.hpp).
// Every what() names the thing, the reason and the next step, in one line, without a final full stop.

#include <stdexcept>
#include <string>

#include "subscribers/text.hpp"

namespace smtpfence {

/// Why a request was refused. The values are the exit codes of the command line (product.md).
enum class Refusal {
    usage = 2,      ///< impossible combination of otherwise valid values
    not_found = 3,  ///< names something that doesn't exist
    conflict = 4,   ///< contradicts what holds; what() says how to go on
    invalid = 7,    ///< a value that does not parse or is never acceptable
};

/// A request that was refused. Nothing was written.
struct Refused : std::runtime_error {
    Refused(Refusal why, const std::string& message) : std::runtime_error(message), reason(why) {}
    Refusal reason;
};

/// The database failed (unreachable, locked, corrupt, full, read-only, too new), or somebody else writes just now, for
/// whom the session doesn't wait (busy). Nothing was written.
struct DatabaseError : std::runtime_error {
    enum class Kind { failed, busy, locked, denied, corrupt, full, schema };
    DatabaseError(Kind what_kind, const std::string& message) : std::runtime_error(message), kind(what_kind) {}
    Kind kind;
};

}  // namespace smtpfence
