#pragma once
// What the database holds, as files for others: the records that import.hpp reads back, the Spamhaus PBL's view, and
// the public statement.

#include <functional>
#include <optional>
#include <ostream>
#include <string>

#include "subscribers/database.hpp"
#include "subscribers/prefix.hpp"
#include "subscribers/record.hpp"

namespace smtpfence {

/// Writes what holds at `at` as records that import as "unchanged" (exemptions: the active ones), in order of prefix or
/// customer, streamed. `source`: only that source's rows. A CSV has its header even when nothing holds. Throws
/// std::runtime_error when `out` can't be written.
void export_records(Database&, std::ostream& out, What, Format, const std::optional<std::string>& source, Instant at);

/// Blocked minus exempt (the Spamhaus PBL's view of the network): the prefixes of pools that drop or reject, longest
/// pool first, without relays and without what customers with an active exemption hold. Disjoint, in order, as few as
/// possible within each pool. Opens its own Reading.
void export_pbl(Database&, const std::function<void(const Prefix&)>&, Instant at);

/// The public statement of what is blocked, for whom, in which direction and why (policy.md 7), as Markdown text.
/// Opens its own Reading.
std::string disclosure(Database&, Instant at);

}  // namespace smtpfence
