#pragma once
// The last good fence on disk: what `restore` loads before there is a network or a database, and what the guard
// measures openings against. One file: the whole fence, then what changed since, each as a record with its length and
// SHA-256, so that keeping it up to date costs what changed. Made anew (and the old one kept as `fence.previous`) when
// the changes outgrow the whole.
//
//   std::optional<Snapshot> last = read_last_good(directory, complaints);
//   LastGood file(directory);
//   file.append(transaction, now());                       // after the kernel took it
//   file.settle(fence, openings, revision, mark, now());   // after a pass
//   file.synchronise();                                    // waits for the disk, as flush()->run() does elsewhere
//
// Who makes it anew in any case has it drafted beside the kernel's work: draft() instead of append().

#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "controller/snapshot.hpp"

namespace smtpfence {

/// The file can't be written or made. what() names path, reason and next step.
struct SnapshotError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// The newest usable fence of this directory. `sure`: the clock is right, though the file was written later by another
/// one. `complaints` gets a line for each file, or part of one, that was damaged,
/// made by a newer version or unreadable. nullopt: none is usable; without complaints there never was one.
std::optional<Snapshot> read_last_good(const std::filesystem::path& directory, Instant now,
                                       std::vector<std::string>& complaints, bool sure = false);

class Descriptor;

class LastGood {
public:
    /// What was handed to the operating system and may not be on the disk yet. Run by whatever thread.
    class Flush {
    public:
        /// Waits for the disk; a whole file takes its name then. Throws SnapshotError.
        void run() const;
        /// It is a whole file's first one: until its end, nothing is settled.
        bool publishes() const { return publishes_; }

    private:
        friend class LastGood;
        std::filesystem::path directory_;
        std::shared_ptr<const Descriptor> file_;
        size_t end_ = 0;  ///< bytes of the file that it has the disk take
        bool publishes_ = false;
        bool over_sound_ = false;  ///< the file whose place it takes is known to be undamaged
    };

    /// Creates the directory when it is missing, nothing else. Throws SnapshotError.
    explicit LastGood(std::filesystem::path directory);

    /// Goes on with the file that `last` was read from, if it is resumable and still there: its fence is in force. The
    /// next flush covers it, as who wrote it may have ended before the disk had it.
    void resume(const Snapshot& last);

    /// The file whose place the next one takes was read just now.
    void replaces(const Snapshot& last) { read_sound_ = last.resumable; }

    /// The next settle() writes everything, whatever was noted or drafted.
    void write_anew();

    /// Notes a transaction that the kernel took, until a flush in memory only. Never throws: what could not be written
    /// makes settle() write everything.
    void append(const Transaction&, Instant now);

    /// Notes a transaction that led to the fence `after` (or to that with what it added), for a new file that settle()
    /// completes. The first one that does something to elements has all of `after` written. Never throws: where it
    /// can't be written, settle() says so.
    void draft(const Transaction&, const Fence& after);

    /// After a pass: the file holds `fence` and `openings`, as of `revision` and its mark (Snapshot::mark), and after a
    /// flush the disk does. Not while a flush that publishes runs. Throws SnapshotError; then the next call tries
    /// again.
    void settle(const Fence&, const Openings&, Revision, const std::string& mark, Instant now);

    /// nullopt: the disk has everything, or the next settle() writes everything.
    std::optional<Flush> flush() const;
    /// False: a whole file was written that has no name yet.
    bool published() const { return !file_ || published_; }
    /// It was run. What was handed over since is left to the next one.
    void succeeded(const Flush&);
    /// It was run and threw: the next settle() writes everything.
    void failed(const Flush&);

    /// Runs what is to be flushed. Throws SnapshotError.
    void synchronise();

    /// Removes both files. False: there were none.
    static bool remove(const std::filesystem::path& directory);

private:
    class Draft;
    void publish(Draft&, const Openings&, Revision, const std::string& mark, Instant now);
    bool is_there() const;  ///< what is appended to has its name still
    void write_record(std::string body, Instant now);

    std::filesystem::path directory_;
    std::shared_ptr<Draft> draft_;            ///< of the next whole file
    bool drafted_ = false;                    ///< since the last settle(); without draft_: in vain
    std::shared_ptr<const Descriptor> file_;  ///< that records are appended to; null: it has to be written whole first
    bool published_ = false;                  ///< it has its name
    size_t whole_ = 0, end_ = 0;              ///< bytes of the whole fence, and of all
    size_t flushed_ = 0;                      ///< bytes that are on disk
    bool read_sound_ = false;                 ///< the file with the name is known to be undamaged
    bool over_sound_ = false;                 ///< Flush::over_sound_
    Openings openings_;                       ///< as they stand in the file
    Revision revision_ = -1;
    std::string mark_;
};

}  // namespace smtpfence
