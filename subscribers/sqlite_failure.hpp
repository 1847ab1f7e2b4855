#pragma once
// Why SQLite refused, so that it can be said in words: what kind of failure it is, who is in the way, what to do.

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "subscribers/error.hpp"

namespace smtpfence {

/// Which file stands behind a path now.
struct FileIdentity {
    dev_t device = 0;
    ino_t inode = 0;
    friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};
/// nullopt: none.
std::optional<FileIdentity> identity_of(const std::string& path);

/// What changes when a file is written.
struct FileStamp {
    int64_t size = 0, seconds = 0, nanoseconds = 0;
    friend bool operator==(const FileStamp&, const FileStamp&) = default;
};
FileStamp stamp_of(const struct stat&);

/// `result`: SQLite's code, plain or extended; `system_error`: the errno below it, 0 when there is none.
DatabaseError::Kind kind_of(int result, int system_error);

/// What to do about it; `path` is the database's.
std::string advice(DatabaseError::Kind, const std::string& path);

bool on_read_only_file_system(const std::string& path);

/// " by process 12 (smtpfence)" for who keeps others out, or "". SQLite's write lock is a POSIX lock on byte 120 of the
/// -shm file; who wants the file for himself locks the file. (Asking with F_GETLK would need a descriptor of it, and
/// closing that drops our own locks.)
std::string lock_holder(const std::string& path);

}  // namespace smtpfence
