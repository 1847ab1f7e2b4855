#pragma once
// A connection to SQLite and what is remembered with it.

#include <sqlite3.h>

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "subscribers/sqlite_file.hpp"
#include "subscribers/sqlite_statement.hpp"

namespace smtpfence {

struct ConnectionDeleter {
    void operator()(sqlite3* connection) const { sqlite3_close_v2(connection); }
};
/// Looks a text up without making a string of it.
struct TextHash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
/// A connection and the statements prepared on it, which go first.
struct Connection {
    std::unique_ptr<sqlite3, ConnectionDeleter> handle;
    std::unordered_map<std::string, Statement, TextHash, std::equal_to<>> statements;
    std::string path;  ///< of the file itself, as SQLite names the log after it
    FileIdentity file;
    std::optional<FileIdentity> log, log_index;  ///< the -wal and -shm files
    FileStamp stamp;
    bool failed = false;  ///< could not be asked for data_version
    int64_t data_version = 0;
    bool flushes = true;      ///< synchronous=FULL
    bool writes = false;      ///< between begin_writing() and its end
    bool wide_cache = false;  ///< as use_wide_cache() set it
};

}  // namespace smtpfence
