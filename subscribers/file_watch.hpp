#pragma once
// Tells that an SQLite file may have been written: inotify on its write-ahead log and on the folder (the log is made,
// removed and replaced, and so is the file when a backup is restored).
//
// A log is written to before the commit can be seen, by as long as the disk takes. So who commits touches it once more:
//
//   sqlite3_step(commit);
//   wake_watches("/var/lib/smtpfence/subscribers.db");

#include <string>

namespace smtpfence {

class FileWatch {
public:
    explicit FileWatch(const std::string& path);
    ~FileWatch();
    FileWatch(const FileWatch&) = delete;
    FileWatch& operator=(const FileWatch&) = delete;

    /// Readable when something happened; -1 when the system has no inotify instance to give.
    int descriptor() const { return descriptor_; }
    /// Reads all events away and looks at the log again if it is another file now. Whether files were written or
    /// replaced: a log that is only touched tells of a commit that can be seen, or of root, who opened it (SQLite's
    /// chown).
    bool drain();

private:
    void watch_log();
    bool read_away();

    std::string folder_, log_;
    int descriptor_ = -1;
    int log_watch_ = -1;
};

/// Wakes everybody who watches this file's log, if it has one and we may.
void wake_watches(const std::string& path);

}  // namespace smtpfence
