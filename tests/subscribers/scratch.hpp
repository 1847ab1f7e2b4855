#pragma once
// What the tests of this folder work on: a folder of their own, databases in it, other processes, and the clock.

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "subscribers/change.hpp"
#include "subscribers/fenced.hpp"
#include "subscribers/schema.hpp"

namespace smtpfence {

/// A folder that goes away with its contents.
class ScratchFolder {
public:
    ScratchFolder() {
        std::string name = (std::filesystem::temp_directory_path() / "smtpfence-test-XXXXXX").string();
        REQUIRE(mkdtemp(name.data()) != nullptr);
        path_ = name;
    }
    ~ScratchFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    ScratchFolder(const ScratchFolder&) = delete;
    ScratchFolder& operator=(const ScratchFolder&) = delete;
    std::string file(const std::string& name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

/// A database file with tables and nothing in them.
class ScratchDatabase {
public:
    ScratchDatabase() : database_(open_database(url(), OpenMode::create)) { migrate(*database_); }
    std::string path() const { return folder_.file("subscribers.db"); }
    std::string url() const { return "sqlite:" + path(); }
    Database& operator*() { return *database_; }
    Database* operator->() { return database_.get(); }
    std::unique_ptr<Database> open(OpenMode mode = OpenMode::write) const { return open_database(url(), mode); }
    void close() { database_.reset(); }

private:
    ScratchFolder folder_;
    std::unique_ptr<Database> database_;
};

inline const Actor alice{"root", "alice", "edge1"};

/// Runs `write` as one committed change by alice.
template <typename Write>
Revision committed(Database& database, Write write, const std::string& command = "test",
                   const std::string& source = "manual") {
    Change change(database, alice, command, {}, source);
    write(change);
    return change.commit();
}

/// Leaves a transaction open that has written to the log already, as a commit does before it can be seen.
inline void write_without_commit(Database& database) {
    database.begin_writing();
    database.query("PRAGMA cache_size = 10", {});
    database.query(
        "CREATE TABLE filler AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) "
        "SELECT i, zeroblob(4000) AS content FROM n",
        {});
}

inline Prefix operator""_p(const char* text, size_t size) { return Prefix::parse({text, size}); }

/// The reason for which `request` is refused and the message, as "conflict: ...", or "granted".
inline std::string refusal(const std::function<void()>& request) {
    try {
        request();
        return "granted";
    } catch (const Refused& refused) {
        const char* reason = "?";
        switch (refused.reason) {
            case Refusal::usage:
                reason = "usage";
                break;
            case Refusal::not_found:
                reason = "not found";
                break;
            case Refusal::conflict:
                reason = "conflict";
                break;
            case Refusal::invalid:
                reason = "invalid";
                break;
        }
        return std::string(reason) + ": " + refused.what();
    }
}

/// The same for a failure of the database.
inline std::string failure(const std::function<void()>& request) {
    try {
        request();
        return "done";
    } catch (const DatabaseError& error) {
        constexpr const char* kinds[] = {"failed", "busy", "locked", "denied", "corrupt", "full", "schema"};
        return std::string(kinds[static_cast<size_t>(error.kind)]) + ": " + error.what();
    }
}

/// Lets time pass for all that is stored: its times move back.
inline void let_pass(Database& database, Seconds time) {
    for (const char* sql : {"UPDATE assignment SET since = since - $1, until = until - $1",
                            "UPDATE past_assignment SET since = since - $1, until = until - $1, ended = ended - $1",
                            "UPDATE exemption SET since = since - $1, until = until - $1,"
                            " counted_from = counted_from - $1, revoked = revoked - $1",
                            "UPDATE attempt SET hour = hour - $1, first_seen = first_seen - $1,"
                            " last_seen = last_seen - $1",
                            "UPDATE apply_request SET time = time - $1"}) {
        database.query(sql, {time.count()});
    }
}

/// One relay as one change.
inline void commit_relay(Database& database, const std::string& prefix) {
    committed(database, [&](Change& change) { add_relay(change, Prefix::parse(prefix), {}, {}); });
}

/// What a revision's audit entries say: "assignment c1 100.64.3.7/32 added".
std::vector<std::string> log_of(Database&, Revision);

/// Runs `work` in another process and returns what it wrote; "killed" when it ended otherwise.
std::string in_another_process(const std::function<std::string()>& work, bool as_nobody = false);

}  // namespace smtpfence
