#pragma once
// What operators confirmed together with what they changed: the guard lets it go.

#include "rules/widening.hpp"
#include "subscribers/database.hpp"

namespace smtpfence {

/// What of `asked` was confirmed with no revision after `since`. Reads no confirmations where nothing is asked, and
/// none of their lines where one of them is exactly that. A confirmation counts up to the first line that this version
/// doesn't know: no revocation waits for a newer one. Throws DatabaseError.
Widening unconfirmed(Database&, Revision since, Widening asked);

}  // namespace smtpfence
