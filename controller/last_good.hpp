#pragma once
// The last good fence on disk: what `restore` loads before there is a network or a database, and what the guard
// measures openings against. One file: the whole fence, then what changed since, each as a record with its length and
// SHA-256, so that keeping it up to date costs what changed. Made anew (and the old one kept as `fence.previous`) when
// the changes outgrow the whole.
//
//   std::optional<Snapshot> last = read_last_good(directory, complaints);
//   LastGood file(directory);
//   file.append(transaction);        // after the kernel took it
//   file.settle(fence, openings, revision, now());   // after a pass
//   file.synchronise();                              // when there is time

#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "controller/snapshot.hpp"

namespace smtpfence {

/// The file can't be written or made. what() names path, reason and next step.
struct SnapshotError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// The newest usable fence of this directory. `complaints` gets a line for each file, or part of one, that was damaged,
/// made by a newer version or unreadable. nullopt: none is usable; without complaints there never was one.
std::optional<Snapshot> read_last_good(const std::filesystem::path& directory, Instant now,
                                       std::vector<std::string>& complaints);

class LastGood {
public:
    /// Creates the directory when it is missing, nothing else. Throws SnapshotError.
    explicit LastGood(std::filesystem::path directory);
    ~LastGood();
    LastGood(const LastGood&) = delete;
    LastGood& operator=(const LastGood&) = delete;

    /// Goes on with the file that `last` was read from, if it is resumable and still there: its fence is in force.
    void resume(const Snapshot& last);

    /// Notes a transaction that the kernel took. What narrows is on disk when this returns, what only widens after
    /// synchronise(). Never throws: what could not be written makes settle() write everything.
    void append(const Transaction&, Instant now);

    /// After a pass: the file holds `fence` and `openings`, as of `revision` and its mark (Snapshot::mark). Throws
    /// SnapshotError; then the next call tries again.
    void settle(const Fence&, const Openings&, Revision, const std::string& mark, Instant now);

    /// Has the disk take what was only handed to it. Throws SnapshotError.
    void synchronise();

    /// Removes both files. False: there were none.
    static bool remove(const std::filesystem::path& directory);

private:
    void write_whole(const Fence&, const Openings&, Revision, const std::string& mark, Instant now);
    bool is_there() const;  ///< what is appended to has its name still
    void write_record(std::string body, Instant now);

    std::filesystem::path directory_;
    int descriptor_ = -1;         ///< of the file that records are appended to; -1: it has to be written whole first
    size_t whole_ = 0, end_ = 0;  ///< bytes of the whole fence, and of all
    bool synchronised_ = true;
    Openings openings_;  ///< as they stand in the file
    Revision revision_ = -1;
    std::string mark_;
};

}  // namespace smtpfence
