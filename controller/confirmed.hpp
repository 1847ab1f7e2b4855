#pragma once
// What operators confirmed together with what they changed, as far as the guard may let it go.

#include <optional>

#include "rules/widening.hpp"
#include "subscribers/database.hpp"
#include "subscribers/error.hpp"

namespace smtpfence {

/// What was confirmed with the revisions that the fence in force does not know.
class Confirmed {
public:
    /// Behind `since`; nullopt: no fence is in force, and nothing has to be confirmed. Throws DatabaseError.
    Confirmed(Database&, std::optional<Revision> since);

    /// Throws Refused (invalid) when a line is none that this version knows. That is no matter until something is to be
    /// opened.
    const Widening& openings() const;

private:
    Widening openings_;
    std::optional<Refused> unknown_;
};

}  // namespace smtpfence
