#pragma once
// Bulk exchange with provisioning systems: JSON lines and CSV, streaming, all-or-nothing, with line numbers. The
// records are in record.hpp, the way back in export.hpp.
//
// upsert: each record is written in its turn. What an optional key leaves out stays as it is (a new pool drops, a new
//   exemption gets 365 days). Rows that already hold so are not written and keep their source.
// release: what somebody else than the record's `customer`, if it names one, holds meanwhile stays his.
// replace: the file is the final state of its source, in any order: all kinds of objects, or the one that --what names
//   (a file of assignments alone takes the same source's pools away, unless --what says that it is about assignments).
//   Rows of that source that it doesn't name are removed: assignments released, exemptions revoked. Left out keys have
//   their defaults: no `until`, no name, no note, action drop. A row of another source is a conflict, unless the record
//   says "take". `release` and `revoke` are refused: what is left out is released and revoked.
// exempt, in both: never moves an expiry without an `until` of its own, and never revives what was revoked or ran out
//   unless `ticket` or `until` is another one. A record that says what its source said before (the change log knows) is
//   no news: where somebody else changed the exemption since, it is skipped. In replace mode an exemption of another
//   source is a conflict only if the record would write.
// over: an `assign` or `exempt` record whose `until` has passed (a lease that ended while the file was on its way) is
//   skipped. Where this source gave just this right, which would last longer, it is ended: in upsert mode because the
//   record says so, in replace mode because the record is as good as left out. Whoever else gave it is left alone.

#include <functional>
#include <istream>

#include "subscribers/customer.hpp"
#include "subscribers/export.hpp"
#include "subscribers/fenced.hpp"
#include "subscribers/lines.hpp"
#include "subscribers/record.hpp"

namespace smtpfence {

struct ImportOptions {
    Format format = Format::jsonl;
    std::optional<What> what;  ///< --what: `op` may be left out
    bool replace = false;      ///< --mode replace: the file is the final state of Change::source()
    bool allow_loss = false;   ///< --confirm: a replace that leaves the source empty, or with far fewer rows, is meant
    RelayLimits relay_limits;
    /// Called now and then, and at the end, with the bytes read and records done, for a progress bar. May be empty.
    std::function<void(int64_t bytes, int64_t records)> progress;
};

struct ImportCounts {
    int64_t added = 0, changed = 0, unchanged = 0, skipped = 0, removed = 0;
    friend bool operator==(const ImportCounts&, const ImportCounts&) = default;
};

/// Reads all of `in` into `change`; the caller commits (or, for a dry run, does not). Throws Refused with "line N: ..."
/// and its reason: invalid for what does not parse (also invalid UTF-8, NUL, a line that is too long, a file that ends
/// inside a record, a wrong header, unknown keys), conflict for a prefix of another customer without "take", a row of
/// another source in replace mode, or two records that contradict each other; not_found for revoke of an unknown
/// customer. Without a line (conflict): without allow_loss, an empty file in replace mode, or one that leaves its
/// source with at least 100 and more than 10 % fewer rows of the kinds that it replaces: most likely it was cut off.
/// std::runtime_error when `in` can't be read.
/// `source` is the source of `change`, which is asked for as late as possible because it locks the database: upsert at
/// the first record, replace when the whole file was read and found consistent (into temporary tables of `database`,
/// which must not be in a transaction).
ImportCounts import_records(const std::function<Change&()>& change, Database& database, std::istream& in,
                            const std::string& source, const ImportOptions&);

}  // namespace smtpfence
