#pragma once
// The file behind an SQLite database: which one it is now, where its log lies, and that it is there.

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "subscribers/database.hpp"

namespace smtpfence {

inline constexpr std::string_view sqlite_scheme = "sqlite:";

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

/// The path of the file itself where `path` is, or leads over, a symbolic link: SQLite puts the -wal and -shm files
/// beside that. `path` as it is when there is no such file.
std::string resolved(const std::string& path);

/// Bytes of the log of the file at `path`, which is its own; 0: it has none.
off_t log_size(const std::string& path);

/// Throws DatabaseError with the errno `error` and what to do; `path` as the user named it.
[[noreturn]] void fail_to_open(const std::string& path, OpenMode, int error);

/// Makes the database's empty file and its folder, unless there is one.
void create_database_file(const std::string& path);

/// Before SQLite looks, for a plainer message. Throws DatabaseError.
void require_database_file(const std::string& path, OpenMode);

bool on_read_only_file_system(const std::string& path);

}  // namespace smtpfence
