#pragma once
// A session with the subscriber database: SQL in, rows out. One of the project's two abstract classes; engines differ
// here and nowhere else. What the tables mean is in schema.cpp; who writes uses Change (change.hpp), who reads uses
// Reading.
//
//   auto database = open_database("sqlite:/var/lib/smtpfence/subscribers.db");
//   Reading reading(*database);                                       // one consistent view until it goes out of scope
//   database->query("SELECT note FROM relay WHERE first = $1", {bytes(key)}, [&](const Row& row) { row.text(0); });
//
// Threads: one session belongs to one thread, but for interrupt(). Errors: DatabaseError, with the path and the
// engine's own words.

#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "subscribers/error.hpp"
#include "subscribers/instant.hpp"

namespace smtpfence {

/// A BLOB (SQLite) or bytea (PostgreSQL).
struct Bytes {
    std::string value;
};
/// A bound parameter or result: NULL, INTEGER, TEXT or BLOB.
using Value = std::variant<std::monostate, int64_t, std::string, Bytes>;

inline Value bytes(std::string value) { return Bytes{std::move(value)}; }
inline Value optional_value(const std::optional<Instant>& t) { return t ? Value{to_number(*t)} : Value{}; }
inline Value optional_value(const std::optional<std::string>& t) { return t ? Value{*t} : Value{}; }

/// What a session finds that asks whether others have committed.
enum class Seen : uint8_t {
    nothing,
    writing,  ///< files were written to: by this session, or by a commit that can't be seen yet
    commit    ///< one at least; another one's writing may have been seen with it
};

/// The current row of a query; valid only inside the callback. Columns count from 0.
class Row {
public:
    virtual ~Row() = default;
    virtual bool null(int column) const = 0;
    virtual int64_t integer(int column) const = 0;
    virtual std::string_view text(int column) const = 0;  ///< until the callback returns
    virtual std::string_view blob(int column) const = 0;  ///< until the callback returns
    std::optional<Instant> instant(int column) const {
        return null(column) ? std::nullopt : std::optional(to_instant(integer(column)));
    }
    std::optional<std::string> optional_text(int column) const {
        return null(column) ? std::nullopt : std::optional(std::string(text(column)));
    }
};

class Database {
public:
    virtual ~Database() = default;

    /// Runs one statement with $1, $2, ... bound to `parameters`. Statements are prepared once and kept. Returns the
    /// number of rows written. `each` (may be empty) is called for every result row; it may run further queries but not
    /// the same text again.
    virtual int64_t query(std::string_view sql, std::span<const Value> parameters,
                          const std::function<void(const Row&)>& each = {}) = 0;
    int64_t query(std::string_view sql, std::initializer_list<Value> parameters,
                  const std::function<void(const Row&)>& each = {}) {
        return query(sql, std::span<const Value>(parameters.begin(), parameters.size()), each);
    }

    virtual void begin_reading() = 0;  ///< a consistent view until commit or rollback
    virtual void begin_writing() = 0;  ///< takes the write lock now (waits for it, then DatabaseError locked)
    /// As begin_writing(), for what may come later or be lost in a power cut: reports and counts. It doesn't wait for
    /// the lock (DatabaseError busy; locked, with its holder, when all calls for a second found it taken), and the
    /// commit doesn't wait for the disk.
    virtual void begin_reporting() = 0;
    /// For how long the last begin_writing() waited for others.
    std::chrono::steady_clock::duration waited() const { return waited_; }
    virtual void commit() = 0;
    virtual void rollback() noexcept = 0;  ///< nothing to do outside a transaction

    /// File descriptor to poll for readability: "somebody may have committed". -1 when there is none (poll changed()
    /// then).
    virtual int wake_descriptor() = 0;
    /// Drains wake_descriptor() and tells whether another session has committed since the last call (own commits don't
    /// count, though they wake: call this right after one). A `commit` is also when the file behind the path is another
    /// one now (a restored backup), which the session opens by itself, or was written around the log. Throws
    /// DatabaseError when there is none or the session can't go on with it; then call it again: the session goes on
    /// with what it finds. Not within a transaction.
    /// SQLite: a backup must be restored without the -wal and -shm files of the old file, and is refused beside them.
    /// An event comes *before* the commit can be seen, and this call may have drained it; a second one behind it comes
    /// from this program's sessions only: unless this finds `nothing`, ask again, after pauses that double.
    virtual Seen changed() = 0;

    /// The engine's schema version: 0 for an empty database.
    virtual int schema_version() = 0;
    virtual void set_schema_version(int) = 0;

    /// From any thread, while the session lives: what it runs ends with DatabaseError.
    virtual void interrupt() noexcept = 0;

    /// What was committed lies in a log so long that to copy it into the database takes a while (a large import beside
    /// a reader, or one that was killed): begin_reporting()'s commits leave that to who has the time for shorten_log().
    virtual bool log_is_long() const = 0;
    /// Copies as much as readers allow, keeping out nobody. Ended by interrupt().
    virtual void shorten_log() noexcept = 0;

    /// "sqlite:/path", for messages; never a password.
    virtual std::string name() const = 0;

protected:
    std::chrono::steady_clock::duration waited_{};
};

/// How a session is opened.
enum class OpenMode {
    read,    ///< must exist; nothing is created. (A WAL reader still needs write permission on the folder; see the
             ///< message.)
    write,   ///< must exist
    create,  ///< made when missing (`init`), parent folder included
};

/// How long a session waits for a lock of somebody else, when it is opened, reads, writes or opens its file again:
/// commands have time, the service goes on without the database.
inline constexpr std::chrono::milliseconds command_patience{10'000}, service_patience{100};

/// Throws Refused (invalid) when no engine has this scheme or the path is missing; opens nothing.
void check_database_url(const std::string& url);

/// Opens "sqlite:PATH" ("sqlite::memory:" for tests, which starts empty). Throws Refused (invalid) for another scheme,
/// DatabaseError otherwise. Unless `create`, also refuses a schema that is older or newer than this program's
/// (DatabaseError schema; the message names `init`).
std::unique_ptr<Database> open_database(const std::string& url, OpenMode mode,
                                        std::chrono::milliseconds patience = command_patience);

/// A read transaction as an object.
class Reading {
public:
    explicit Reading(Database& database) : database_(database) { database_.begin_reading(); }
    ~Reading() { database_.rollback(); }
    Reading(const Reading&) = delete;
    Reading& operator=(const Reading&) = delete;

private:
    Database& database_;
};

}  // namespace smtpfence
