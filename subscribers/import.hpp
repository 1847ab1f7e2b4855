#pragma once
// Bulk exchange with provisioning systems: JSON lines and CSV, streaming, all-or-nothing, with line numbers. Formats in
// product.md.

#include <functional>
#include <istream>
#include <ostream>

#include "subscribers/customer.hpp"
#include "subscribers/fenced.hpp"

namespace smtpfence {

enum class Format { jsonl, csv };
/// Which kind of object a file holds where its records don't say (CSV without an `op` column), and what an export
/// writes.
enum class What { assignments, pools, relays, exemptions };

struct ImportOptions {
    Format format = Format::jsonl;
    std::optional<What> what;  ///< --what: `op` may be left out
    bool replace = false;      ///< --mode replace: the file is the final state of Change::source()
    bool allow_empty = false;  ///< --confirm: an empty file in replace mode is meant
    RelayLimits relay_limits;
    /// Called now and then with the bytes read and records done, for a progress bar. May be empty.
    std::function<void(int64_t bytes, int64_t records)> progress;
};

struct ImportCounts {
    int64_t added = 0, changed = 0, unchanged = 0, skipped = 0, removed = 0;
    friend bool operator==(const ImportCounts&, const ImportCounts&) = default;
};

/// Longest accepted line, in bytes.
constexpr size_t longest_line = 65536;

/// Reads all of `in` into `change`; the caller commits (or, for a dry run, does not). Throws Refused with "line N: ..."
/// and its reason: invalid for what does not parse (also invalid UTF-8, NUL, a line that is too long, a file that ends
/// inside a record, a wrong header, unknown keys), conflict for a prefix of another customer without "take" or a row of
/// another source in replace mode. Replace mode reads into a staging file beside nothing of the database, and takes the
/// write lock only then: pass `change` lazily.
ImportCounts import_records(const std::function<Change&()>& change, Database&, std::istream& in,
                            const std::string& source, const ImportOptions&);

/// Writes what holds at `at` as records that import as "unchanged", streamed. `source`: only that source's rows.
void export_records(Database&, std::ostream&, What, Format, const std::optional<std::string>& source, Instant at);

/// One prefix per line: blocked minus exempt (the Spamhaus PBL's view of the network), disjoint, in order.
void export_pbl(Database&, const std::function<void(const Prefix&)>&, Instant at);

/// The public statement of what is blocked, for whom, in which direction and why (policy.md 7), as Markdown text.
std::string disclosure(Database&, Instant at);

}  // namespace smtpfence
