// The SQLite engine: write-ahead log, one writer at a time, any number of readers and processes.

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include "subscribers/file_watch.hpp"
#include "subscribers/schema.hpp"
#include "subscribers/sqlite_connection.hpp"
#include "subscribers/sqlite_failure.hpp"

namespace smtpfence {

namespace {

using Kind = DatabaseError::Kind;

constexpr int application_id = 0x736d7446;  // "smtF", for file(1) and against other programs' files
/// Frames in the log behind which a commit also copies them into the database and waits for the disk. Who reports does
/// so only where nobody else ever writes.
constexpr int checkpoint_behind = 1000, checkpoint_behind_report = 8000;
/// What a log is cut to when it is begun anew. One that is longer holds more than that.
constexpr off_t long_log = 32 << 20;
/// A log of more bytes is not left behind by a write that was taken back.
constexpr off_t left_behind = 4 << 20;
/// A lock that is held so long is worth looking for its holder, which takes the kernel some 10 ms (/proc/locks).
constexpr std::chrono::seconds long_lock{1};
constexpr std::string_view memory = ":memory:";

/// SQLite keeps count of its memory under a lock, for which nobody asks here.
void leave_memory_uncounted() {
    static const int result = sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    if (result != SQLITE_OK) throw std::logic_error("SQLite was in use before its first database was opened");
}

class Sqlite final : public Database {
public:
    Sqlite(std::string path, OpenMode mode, std::chrono::milliseconds patience)
        : path_(std::move(path)), mode_(mode), patience_(patience) {
        leave_memory_uncounted();
        if (mode_ == OpenMode::create && path_ != memory) create_database_file(path_);
        connection_ = connect();
    }

    int64_t query(std::string_view sql, std::span<const Value> parameters,
                  const std::function<void(const Row&)>& each) override;
    using Database::query;

    void begin_reading() override;
    void begin_writing() override;
    void begin_reporting() override;
    void commit() override;
    void rollback() noexcept override;

    int wake_descriptor() override;
    Seen changed() override;

    int schema_version() override;
    void set_schema_version(int version) override;

    void interrupt() noexcept override { sqlite3_interrupt(connection_.handle.get()); }

    bool log_is_long() const override { return log_size(connection_.path) > long_log; }
    void shorten_log() noexcept override { checkpoint(SQLITE_CHECKPOINT_PASSIVE); }

    std::string name() const override { return std::string(sqlite_scheme) + path_; }

private:
    [[noreturn]] void fail(int result, sqlite3* connection, std::string_view doing) const;
    [[noreturn]] void fail_locked(std::chrono::duration<double> waited) const;
    Connection connect();
    void use_write_ahead_log();
    void require_new_log() const;
    void require_same_file();
    void checkpoint(int mode) noexcept;
    Statement& prepared(std::string_view sql);
    void flush_commits(bool flush);
    void use_wide_cache(bool wide);
    int64_t number(std::string_view sql);

    std::string path_;
    OpenMode mode_;
    std::chrono::milliseconds patience_;  ///< for locks of others
    /// Since when begin_reporting() always found the lock taken.
    std::optional<std::chrono::steady_clock::time_point> refused_since_;
    Connection connection_;
    std::unique_ptr<FileWatch> watch_;
};

// Opening

void Sqlite::fail(int result, sqlite3* connection, std::string_view doing) const {
    const int extended = connection ? sqlite3_extended_errcode(connection) : result;
    int system_error = connection ? sqlite3_system_errno(connection) : 0;
    // Whoever reads in WAL mode makes files beside the database. SQLite says of that only that they are missing.
    if ((result & 0xff) == SQLITE_CANTOPEN && on_read_only_file_system(path_)) system_error = EROFS;
    const Kind kind = kind_of(extended == SQLITE_OK ? result : extended, system_error);
    if (kind == Kind::locked) fail_locked(patience_);
    std::string why = connection ? sqlite3_errmsg(connection) : sqlite3_errstr(result);
    const int primary = extended & 0xff;
    if (system_error != 0 && (primary == SQLITE_IOERR || primary == SQLITE_CANTOPEN)) {
        why += fmt::format(" ({})", std::strerror(system_error));
    }
    if (!doing.empty() && kind == Kind::failed) why += fmt::format(" in {}", quoted(doing));
    throw DatabaseError(kind, fmt::format("{}: {}; {}", name(), why, advice(kind, path_)));
}

void Sqlite::fail_locked(std::chrono::duration<double> waited) const {
    throw DatabaseError(Kind::locked,
                        fmt::format("{} has been locked{} for {} s; {}", name(), lock_holder(resolved(path_)),
                                    waited.count(), advice(Kind::locked, path_)));
}

Connection Sqlite::connect() {
    if (path_ != memory) require_database_file(path_, mode_);
    Connection fresh;
    // Before it is opened: one that takes its place meanwhile then is another one.
    fresh.path = resolved(path_);
    fresh.file = identity_of(path_).value_or(FileIdentity{});
    sqlite3* handle = nullptr;
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    const int result = sqlite3_open_v2(path_.c_str(), &handle, flags, nullptr);
    fresh.handle.reset(handle);
    if (result != SQLITE_OK) fail(result, handle, {});
    sqlite3_busy_timeout(handle, static_cast<int>(patience_.count()));

    std::swap(connection_, fresh);  // the queries below run on it; the old one comes back if they fail
    try {
        query("PRAGMA foreign_keys = ON", {});
        query("PRAGMA trusted_schema = OFF", {});
        query("PRAGMA recursive_triggers = ON", {});
        query("PRAGMA synchronous = FULL", {});
        query(fmt::format("PRAGMA journal_size_limit = {}", long_log), {});
        query("PRAGMA cache_size = -1024", {});
        {
            // In one view, as somebody may be making its tables; and before anything is written, as it may not be ours.
            const Reading reading(*this);
            mode_ == OpenMode::create ? void(schema_version()) : require_schema(*this);
        }
        if (mode_ == OpenMode::read) query("PRAGMA query_only = ON", {});
        if (mode_ != OpenMode::read && path_ != memory) use_write_ahead_log();
        connection_.data_version = number("PRAGMA data_version");
        connection_.log = identity_of(connection_.path + "-wal");
        connection_.log_index = identity_of(connection_.path + "-shm");
        struct stat status {};
        if (path_ != memory && stat(path_.c_str(), &status) == 0) connection_.stamp = stamp_of(status);
    } catch (...) {
        std::swap(connection_, fresh);
        throw;
    }
    std::swap(connection_, fresh);
    return fresh;
}

void Sqlite::use_write_ahead_log() {
    // Changing the mode needs the file for itself, and doesn't wait for it.
    const auto deadline = std::chrono::steady_clock::now() + patience_;
    for (;;) {
        try {
            std::string mode;
            query("PRAGMA journal_mode = WAL", {}, [&](const Row& row) { mode = row.text(0); });
            if (mode == "wal") return;
            throw DatabaseError(Kind::failed, fmt::format("{}: this file system can't hold a write-ahead log (SQLite "
                                                          "stays in mode {}); put the database on a local disk",
                                                          name(), mode));
        } catch (const DatabaseError& error) {
            if (error.kind != Kind::locked || std::chrono::steady_clock::now() > deadline) throw;
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
    }
}

int Sqlite::schema_version() {
    const int64_t id = number("PRAGMA application_id");
    const int64_t version = number("PRAGMA user_version");
    const bool untouched = id == 0 && version == 0 && number("SELECT count(*) FROM sqlite_schema") == 0;
    if (id != application_id && !untouched) {
        throw DatabaseError(Kind::schema,
                            fmt::format("{} is the database of another program; name another file", name()));
    }
    return static_cast<int>(version);
}

void Sqlite::set_schema_version(int version) {
    query(fmt::format("PRAGMA user_version = {}", version), {});
    query(fmt::format("PRAGMA application_id = {}", application_id), {});
}

// Statements

Statement& Sqlite::prepared(std::string_view sql) {
    if (const auto known = connection_.statements.find(sql); known != connection_.statements.end()) {
        if (known->second.running) throw std::logic_error(fmt::format("query within itself: {}", sql));
        return known->second;
    }
    sqlite3* connection = connection_.handle.get();
    Statement statement = prepare(connection, sql);
    if (!statement.handle) fail(sqlite3_errcode(connection), connection, sql);
    return connection_.statements.emplace(sql, std::move(statement)).first->second;
}

int64_t Sqlite::query(std::string_view sql, std::span<const Value> parameters,
                      const std::function<void(const Row&)>& each) {
    Statement& statement = prepared(sql);
    if (statement.slots.size() > parameters.size()) {
        throw std::logic_error(fmt::format("{} parameters for: {}", parameters.size(), sql));
    }
    const Execution execution(statement);
    sqlite3* connection = connection_.handle.get();
    sqlite3_stmt* handle = statement.handle.get();
    for (size_t i = 0; i < statement.slots.size(); ++i) {
        if (statement.slots[i] == 0) continue;
        const int result = bind(handle, statement.slots[i], parameters[i]);
        if (result != SQLITE_OK) fail(result, connection, sql);
    }
    const int64_t before = sqlite3_total_changes64(connection);
    const SqliteRow row(handle);
    int result = SQLITE_ROW;
    while ((result = sqlite3_step(handle)) == SQLITE_ROW) {
        if (each) each(row);
    }
    if (result != SQLITE_DONE) fail(result, connection, sql);
    return sqlite3_total_changes64(connection) - before;
}

int64_t Sqlite::number(std::string_view sql) {
    int64_t value = 0;
    query(sql, {}, [&](const Row& row) { value = row.integer(0); });
    return value;
}

// Transactions

/// A bulk import needs the upper pages of every index at hand; a reader streams. More than this would make the peak of
/// an import grow with its rows, and gain an eighth of its time.
void Sqlite::use_wide_cache(bool wide) {
    if (connection_.wide_cache == wide) return;
    query(wide ? "PRAGMA cache_size = -32768" : "PRAGMA cache_size = -1024", {});
    connection_.wide_cache = wide;
}

void Sqlite::begin_reading() {
    use_wide_cache(false);
    query("BEGIN", {});
    try {
        query("SELECT 1 FROM sqlite_schema LIMIT 1", {});  // BEGIN alone takes no snapshot
    } catch (...) {
        rollback();
        throw;
    }
}

void Sqlite::flush_commits(bool flush) {
    if (connection_.flushes == flush) return;
    query(flush ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", {});
    if (flush) sqlite3_wal_autocheckpoint(connection_.handle.get(), checkpoint_behind);
    connection_.flushes = flush;
}

void Sqlite::begin_writing() {
    flush_commits(true);
    use_wide_cache(true);
    const auto began = std::chrono::steady_clock::now();
    query("BEGIN IMMEDIATE", {});
    waited_ = std::chrono::steady_clock::now() - began;
    connection_.writes = true;
}

void Sqlite::begin_reporting() {
    flush_commits(false);
    sqlite3* connection = connection_.handle.get();
    sqlite3_wal_autocheckpoint(connection, log_is_long() ? 0 : checkpoint_behind_report);
    Statement& begin = prepared("BEGIN IMMEDIATE");
    const Execution execution(begin);
    sqlite3_busy_timeout(connection, 0);
    const int result = sqlite3_step(begin.handle.get());
    sqlite3_busy_timeout(connection, static_cast<int>(patience_.count()));
    if ((result & 0xff) != SQLITE_BUSY) {
        if (result != SQLITE_DONE) fail(result, connection, "BEGIN IMMEDIATE");
        refused_since_.reset();
        return;
    }
    const auto now = std::chrono::steady_clock::now();
    if (!refused_since_) refused_since_ = now;
    if (now - *refused_since_ >= long_lock) fail_locked(long_lock);
    throw DatabaseError(Kind::busy, fmt::format("{} is being written to; {}", name(), advice(Kind::locked, path_)));
}

/// What is written into a file that another one has replaced (a restored backup), nobody ever reads.
void Sqlite::require_same_file() {
    if (path_ == memory) return;
    const auto file = identity_of(path_);
    if (file == connection_.file) return;
    rollback();
    throw DatabaseError(Kind::failed, fmt::format("{}: the file was {} meanwhile; nothing was written; run it again",
                                                  name(), file ? "replaced" : "removed"));
}

void Sqlite::commit() {
    const bool durable =
        connection_.flushes && sqlite3_txn_state(connection_.handle.get(), nullptr) == SQLITE_TXN_WRITE;
    if (durable) require_same_file();
    query("COMMIT", {});
    connection_.writes = false;
    if (durable && path_ != memory) wake_watches(connection_.path);
}

void Sqlite::rollback() noexcept {
    sqlite3* connection = connection_.handle.get();
    const bool wrote = std::exchange(connection_.writes, false);
    // After some errors (a full disk) SQLite has rolled back by itself.
    if (connection && sqlite3_get_autocommit(connection) == 0) {
        sqlite3_exec(connection, "ROLLBACK", nullptr, nullptr, nullptr);
    }
    // What a large write that was taken back leaves in the log stays there until somebody writes as much again, and it
    // may have filled the file system.
    if (wrote && log_size(connection_.path) > left_behind) checkpoint(SQLITE_CHECKPOINT_TRUNCATE);
}

/// If anybody is in the way, that's it.
void Sqlite::checkpoint(int mode) noexcept {
    sqlite3* connection = connection_.handle.get();
    sqlite3_busy_timeout(connection, 0);
    sqlite3_wal_checkpoint_v2(connection, nullptr, mode, nullptr, nullptr);
    sqlite3_busy_timeout(connection, static_cast<int>(patience_.count()));
}

// Following

int Sqlite::wake_descriptor() {
    if (!watch_ && path_ != memory) watch_ = std::make_unique<FileWatch>(path_);
    return watch_ ? watch_->descriptor() : -1;
}

/// SQLite would replay the log of the file that is gone over the one that took its place. While only the log's index is
/// left, somebody is about to remove that, too: whoever had opened it by then would read another one than all others.
void Sqlite::require_new_log() const {
    const std::string path = resolved(path_);
    const bool log = connection_.log && identity_of(path + "-wal") == connection_.log;
    const bool index = connection_.log_index && identity_of(path + "-shm") == connection_.log_index;
    if (!log && !index) return;
    throw DatabaseError(Kind::failed,
                        fmt::format("{}: the file was replaced, and {} is still {} of the old one; remove {}", name(),
                                    path + (log ? "-wal" : "-shm"), log ? "the log" : "the log's index",
                                    log ? "it and " + path + "-shm" : "it"));
}

Seen Sqlite::changed() {
    if (path_ == memory) return Seen::nothing;
    const bool writing = watch_ && watch_->drain();
    struct stat status {};
    if (stat(path_.c_str(), &status) != 0) {
        if (errno != ENOENT) fail_to_open(path_, mode_, errno);
        throw DatabaseError(Kind::failed,
                            fmt::format("{}: the file was removed while it was in use; restore a backup", name()));
    }
    const bool replaced = connection_.file != FileIdentity{status.st_dev, status.st_ino};
    if (replaced || resolved(path_) != connection_.path) {
        if (replaced) require_new_log();
        connection_ = connect();
        if (watch_) watch_->drain();
        return Seen::commit;
    }
    if (connection_.failed) connection_ = connect();
    connection_.failed = true;
    // Checkpoints write the file, and so does who copies another one over it: what is cached may be true no more.
    const bool written = std::exchange(connection_.stamp, stamp_of(status)) != stamp_of(status);
    if (written) sqlite3_db_release_memory(connection_.handle.get());
    const int64_t version = number("PRAGMA data_version");
    connection_.failed = false;
    const bool committed = std::exchange(connection_.data_version, version) != version;
    return committed || written ? Seen::commit : writing ? Seen::writing : Seen::nothing;
}

}  // namespace

void check_database_url(const std::string& url) {
    if (url.compare(0, sqlite_scheme.size(), sqlite_scheme) != 0) {
        // Only the scheme is shown: the rest may hold a password.
        throw Refused(Refusal::invalid, fmt::format("database {}: unknown kind; write sqlite:/path/to/file",
                                                    quoted(url.substr(0, url.find(':')))));
    }
    const std::string path = url.substr(sqlite_scheme.size());
    if (path.empty() || path.find('\0') != std::string::npos) {
        throw Refused(Refusal::invalid, fmt::format("database {}: no path; write sqlite:/path/to/file", quoted(url)));
    }
}

std::unique_ptr<Database> open_database(const std::string& url, OpenMode mode, std::chrono::milliseconds patience) {
    check_database_url(url);
    return std::make_unique<Sqlite>(url.substr(sqlite_scheme.size()), mode, patience);
}

}  // namespace smtpfence
