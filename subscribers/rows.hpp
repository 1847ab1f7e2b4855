#pragma once
// The rows of the objects, found and written exactly as given, for whoever has decided already what they shall be
// (import, revert). What may be written is decided elsewhere: fenced.hpp, customer.hpp.

#include "subscribers/customer.hpp"
#include "subscribers/fenced.hpp"

namespace smtpfence {

/// The two columns of a prefix.
inline Value first_of(const Prefix& prefix) { return bytes(prefix.first_key()); }
inline Value length_of(const Prefix& prefix) { return int64_t{prefix.length()}; }

/// What a row says: of columns first, length and
Relay relay_of(const Row&);                                ///< note, source
Pool pool_of(const Row&);                                  ///< name, action, source
Assignment assignment_of(const Row&, bool ended = false);  ///< customer, since, until, source and, on demand, ended

std::optional<Relay> find_relay(Database&, const Prefix&);
std::optional<Pool> find_pool(Database&, const Prefix&);
/// The row of exactly this prefix, also when its `until` is over.
std::optional<Assignment> find_assignment(Database&, const Prefix&);

/// A row that overlaps, of another customer, that is not over at `at`.
std::optional<Assignment> held_by_other(Database&, const Prefix&, const std::string& customer, Instant at);

/// Makes the row `after`, whatever stands there, and records the step from `before`, which is what stood there
/// (nullopt: nothing). An assignment's customer must exist, and nobody else may hold an overlapping prefix; its `since`
/// is Change::time() where there was no row.
void put(Change&, const std::optional<Relay>& before, const Relay& after);
void put(Change&, const std::optional<Pool>& before, const Pool& after);
void put(Change&, const std::optional<Assignment>& before, const Assignment& after);
void put(Change&, const std::optional<Exemption>& before, const Exemption& after);

}  // namespace smtpfence
