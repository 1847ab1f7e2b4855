#pragma once
// Tells that an SQLite file may have been written: inotify on its write-ahead log and on the folder (the log is made,
// removed and replaced, and so is the file when a backup is restored). Where the path is a symbolic link, that is the
// folder of the link and the one of the file.
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
    void watch_file();
    bool read_away();

    std::string path_, file_;  // as it was named, and as it was last resolved
    int descriptor_ = -1;
    int named_folder_ = -1, folder_ = -1, log_ = -1;  // watches
};

/// Wakes everybody who watches this file's log, if it has one and we may. `path` is the file's own, resolved().
void wake_watches(const std::string& path);

}  // namespace smtpfence
