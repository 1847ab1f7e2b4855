#pragma once
// The records of a file in replace mode, kept in temporary tables while they are read, so that the database is locked
// only for the difference.
//
//   Staging staging(database);
//   staging.add(record, line);            // for each record; locks nothing
//   staging.check();                      // the file doesn't contradict itself
//   staging.write(change, options);       // makes the source's rows what the file says

#include "subscribers/import.hpp"

namespace smtpfence {

class Staging {
public:
    explicit Staging(Database&);
    ~Staging();
    Staging(const Staging&) = delete;
    Staging& operator=(const Staging&) = delete;

    /// Refused (invalid) for release and revoke.
    void add(const Record&, int64_t line);
    bool empty() const { return records_ == 0; }

    /// Ends the reading. Refused (conflict), "line N: ...", when two records contradict each other: overlapping
    /// prefixes of two customers, or the same object with different facts; records that are over contradict nothing.
    /// Records that repeat another one are counted as unchanged.
    void check();

    /// Replaces the kind of `options.what`, or all kinds. Throws Refused (conflict).
    ImportCounts write(Change&, const ImportOptions& options);

private:
    void begin();
    void end();
    void require_disjoint();
    void require_unique(Op);
    void drop_repetitions();
    int64_t leave_out_over(Change&);
    void require_rows_left(Change&, std::optional<What> what);

    Database& database_;
    bool open_ = false;  // a transaction that holds only temporary rows
    int64_t records_ = 0;
    int64_t repetitions_ = 0;
    int64_t records_of_[what_count] = {};  // that count: without repetitions
};

}  // namespace smtpfence
