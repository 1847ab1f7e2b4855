#include <fmt/format.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <fstream>
#include <thread>

#include "scratch.hpp"

using namespace smtpfence;

TEST_CASE("sqlite: a missing file names the command that makes it") {
    ScratchFolder folder;
    for (OpenMode mode : {OpenMode::read, OpenMode::write}) {
        CHECK_THAT(failure([&] { open_database("sqlite:" + folder.file("none.db"), mode); }),
                   Catch::StartsWith("failed: ") && Catch::Contains("none.db: No such file or directory") &&
                       Catch::Contains("smtpfence init"));
    }
    CHECK_FALSE(std::filesystem::exists(folder.file("none.db")));
}

TEST_CASE("sqlite: create makes file and folder, for owner and group only") {
    ScratchFolder folder;
    const auto database = open_database("sqlite:" + folder.file("a/b/new.db"), OpenMode::create);
    migrate(*database);
    struct stat status {};
    for (const char* name : {"a/b/new.db", "a/b/new.db-wal"}) {
        REQUIRE(stat(folder.file(name).c_str(), &status) == 0);
        CHECK((status.st_mode & 0777) == 0640);
    }
    CHECK(database->name() == "sqlite:" + folder.file("a/b/new.db"));
}

TEST_CASE("sqlite: another kind of database is refused without its password") {
    const std::string message = refusal([] { open_database("postgresql://user:secret@host/db", OpenMode::read); });
    CHECK_THAT(message, Catch::StartsWith("invalid: ") && Catch::Contains("sqlite:/path"));
    CHECK_THAT(message, !Catch::Contains("secret"));
    CHECK_THAT(refusal([] { open_database("sqlite:", OpenMode::read); }), Catch::StartsWith("invalid: "));
    CHECK_THAT(refusal([] { open_database("", OpenMode::read); }), Catch::StartsWith("invalid: "));
}

TEST_CASE("sqlite: values go in and come out, of each kind") {
    const auto database = open_database("sqlite::memory:", OpenMode::create);
    const std::string with_nul("a\0b", 3);
    int rows = 0;
    database->query("SELECT $1, $2, $3, $4, $1 + 1, $5",
                    {int64_t{1} << 60, with_nul, bytes(with_nul), Value{}, bytes("")}, [&](const Row& row) {
                        ++rows;
                        CHECK(row.integer(0) == int64_t{1} << 60);
                        CHECK(row.text(1) == with_nul);
                        CHECK(row.blob(2) == with_nul);
                        CHECK(row.null(3));
                        CHECK_FALSE(row.optional_text(3));
                        CHECK_FALSE(row.instant(3));
                        CHECK(row.integer(4) == (int64_t{1} << 60) + 1);
                        CHECK_FALSE(row.null(5));
                        CHECK(row.blob(5).empty());
                    });
    CHECK(rows == 1);
}

TEST_CASE("sqlite: a query tells how many rows it wrote") {
    const auto database = open_database("sqlite::memory:", OpenMode::create);
    CHECK(database->query("CREATE TABLE t (a INTEGER) STRICT", {}) == 0);
    CHECK(database->query("INSERT INTO t VALUES ($1), ($2), ($1)", {int64_t{1}, int64_t{2}}) == 3);
    CHECK(database->query("SELECT a FROM t", {}) == 0);
    CHECK(database->query("DELETE FROM t WHERE a = $1", {int64_t{1}}) == 2);
    CHECK(database->query("DELETE FROM t WHERE a = $1", {int64_t{1}}) == 0);
}

TEST_CASE("sqlite: only who writes has a large cache") {
    const auto database = open_database("sqlite::memory:", OpenMode::create);
    const auto cache_kilobytes = [&] {
        int64_t size = 0;
        database->query("PRAGMA cache_size", {}, [&](const Row& row) { size = -row.integer(0); });
        return size;
    };
    CHECK(cache_kilobytes() == 1024);
    database->begin_writing();
    CHECK(cache_kilobytes() == 32768);
    database->commit();
    database->begin_reporting();
    database->commit();
    { const Reading reading(*database); }
    CHECK(cache_kilobytes() == 1024);
    database->begin_reporting();
    CHECK(cache_kilobytes() == 1024);
    database->rollback();
}

TEST_CASE("sqlite: reports leave it to others to copy the log into the database") {
    ScratchDatabase database;
    const auto reporter = database.open();
    const auto written = [&] { return std::filesystem::file_size(database.path()); };
    const auto before = written();
    const char* fill = "INSERT INTO filler VALUES (zeroblob(1000000))";
    reporter->begin_reporting();
    reporter->query("CREATE TABLE filler (content BLOB)", {});
    for (int i = 0; i < 6; ++i) reporter->query(fill, {});  // 1,500 pages
    reporter->commit();
    CHECK(written() == before);
    database->begin_writing();
    database->query("INSERT INTO filler VALUES (NULL)", {});
    database->commit();
    CHECK(written() > before + 6'000'000);
    reporter->begin_reporting();
    for (int i = 0; i < 40; ++i) reporter->query(fill, {});  // where nobody else writes
    reporter->commit();
    CHECK(written() > before + 40'000'000);
}

TEST_CASE("sqlite: a query that fails in the middle leaves the session usable") {
    const auto database = open_database("sqlite::memory:", OpenMode::create);
    const char* sql = "VALUES (1), (2), (3)";
    CHECK_THROWS_AS(database->query(sql, {}, [](const Row&) { throw std::runtime_error("enough"); }),
                    std::runtime_error);
    int64_t sum = 0;
    database->query(sql, {}, [&](const Row& row) { sum += row.integer(0); });
    CHECK(sum == 6);
    CHECK_THROWS_AS(database->query(sql, {}, [&](const Row&) { database->query(sql, {}); }), std::logic_error);
    CHECK_THROWS_AS(database->query("SELECT $1, $2", {int64_t{1}}), std::logic_error);
    CHECK_THAT(failure([&] { database->query("SELECT nothing FROM nowhere", {}); }),
               Catch::StartsWith("failed: ") && Catch::Contains("nowhere"));
}

TEST_CASE("sqlite: a reading sees one state from its beginning on") {
    ScratchDatabase database;
    const auto reader = database.open(OpenMode::read);
    {
        const Reading reading(*reader);
        commit_relay(*database, "203.0.113.10");
        CHECK(relays(*reader).empty());
        CHECK(current_revision(*reader) == 0);
    }
    CHECK(relays(*reader).size() == 1);
}

static bool news(Database& database) { return database.changed() == Seen::commit; }

/// Whether the session is woken and sees a change within two seconds, as the service asks.
static bool woken(Database& database) {
    pollfd wake{database.wake_descriptor(), POLLIN, 0};
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    if (poll(&wake, 1, 2000) != 1) return false;
    while (std::chrono::steady_clock::now() < deadline) {
        if (news(database)) return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
}

static bool quiet(Database& database) {
    pollfd wake{database.wake_descriptor(), POLLIN, 0};
    return poll(&wake, 1, 0) == 0;
}

TEST_CASE("sqlite: another session's commit wakes, an own one does not count") {
    ScratchDatabase database;
    const auto follower = database.open();
    REQUIRE(follower->wake_descriptor() != -1);
    CHECK_FALSE(news(*follower));
    for (int i = 0; i < 20; ++i) {
        commit_relay(*database, fmt::format("203.0.113.{}", i));
        CHECK(woken(*follower));
        while (news(*follower)) {
        }
        CHECK(quiet(*follower));
    }
    commit_relay(*follower, "203.0.113.100");
    CHECK_FALSE(news(*follower));
    CHECK(quiet(*follower));
    // Both at once: the other one's still counts.
    commit_relay(*database, "203.0.113.101");
    commit_relay(*follower, "203.0.113.102");
    CHECK(woken(*follower));
}

TEST_CASE("sqlite: a commit that is still being written is told of, once, when its event is drained") {
    ScratchDatabase database;
    const auto follower = database.open();
    REQUIRE(follower->wake_descriptor() != -1);
    CHECK(follower->changed() == Seen::nothing);
    write_without_commit(*database);
    CHECK(follower->changed() == Seen::writing);
    CHECK(follower->changed() == Seen::nothing);
    database->commit();
    CHECK(follower->changed() == Seen::commit);
    CHECK(follower->changed() == Seen::nothing);
    commit_relay(*follower, "203.0.113.10");
    CHECK(follower->changed() == Seen::writing);
    CHECK(follower->changed() == Seen::nothing);
}

TEST_CASE("sqlite: a commit wakes once more when it can be seen, a report doesn't") {
    ScratchDatabase database;
    const int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    REQUIRE(inotify_add_watch(watch, (database.path() + "-wal").c_str(), IN_MODIFY | IN_ATTRIB) != -1);
    const auto last_event = [&] {
        alignas(inotify_event) std::array<char, 4096> events{};
        uint32_t mask = 0;
        for (ssize_t size; (size = read(watch, events.data(), events.size())) > 0;) {
            const char* last = events.data() + size - sizeof(inotify_event);  // a watched file's events have no name
            mask = reinterpret_cast<const inotify_event*>(last)->mask;
        }
        return mask;
    };
    commit_relay(*database, "203.0.113.10");
    CHECK(last_event() == IN_ATTRIB);
    database->begin_reporting();
    database->query("UPDATE relay SET note = 'none'", {});
    database->commit();
    CHECK(last_event() == IN_MODIFY);
    database->begin_reading();
    database->commit();
    CHECK(last_event() == 0);
    close(watch);
}

TEST_CASE("sqlite: a log that is emptied and begun again still wakes") {
    ScratchDatabase database;
    const auto follower = database.open();
    REQUIRE(follower->wake_descriptor() != -1);
    for (int i = 0; i < 3; ++i) {
        database->query("PRAGMA wal_checkpoint(TRUNCATE)", {});
        while (news(*follower)) {
        }
        commit_relay(*database, fmt::format("203.0.113.{}", i));
        CHECK(woken(*follower));
    }
}

TEST_CASE("sqlite: a restored backup is noticed and read") {
    ScratchDatabase database;
    commit_relay(*database, "203.0.113.10");
    database->query(fmt::format("VACUUM INTO '{}.backup'", database.path()), {});
    commit_relay(*database, "203.0.113.11");
    const auto follower = database.open();
    REQUIRE(follower->wake_descriptor() != -1);
    CHECK(current_revision(*follower) == 2);
    database.close();

    std::filesystem::remove(database.path());
    CHECK_THAT(failure([&] { follower->changed(); }), Catch::StartsWith("failed: ") && Catch::Contains("was removed"));
    CHECK(current_revision(*follower) == 2);
    std::filesystem::remove(database.path() + "-wal");
    std::filesystem::remove(database.path() + "-shm");
    std::filesystem::rename(database.path() + ".backup", database.path());
    CHECK(woken(*follower));
    CHECK(current_revision(*follower) == 1);
    CHECK_FALSE(news(*follower));

    commit_relay(*database.open(), "203.0.113.12");
    CHECK(woken(*follower));
    CHECK(current_revision(*follower) == 2);
}

TEST_CASE("sqlite: nothing is committed into a file that was replaced meanwhile") {
    ScratchDatabase database;
    commit_relay(*database, "203.0.113.10");
    database->query(fmt::format("VACUUM INTO '{}.backup'", database.path()), {});
    const auto write_while = [&](const std::function<void()>& meanwhile) {
        return failure([&] {
            committed(*database, [&](Change& change) {
                add_relay(change, "203.0.113.11"_p, {}, {});
                meanwhile();
            });
        });
    };
    CHECK(write_while([&] {
              for (const char* log : {"-wal", "-shm"}) std::filesystem::remove(database.path() + log);
              std::filesystem::rename(database.path() + ".backup", database.path());
          }) == "failed: " + database.url() + ": the file was replaced meanwhile; nothing was written; run it again");
    CHECK(current_revision(*database) == 1);
    CHECK(current_revision(*database.open(OpenMode::read)) == 1);
    CHECK(news(*database));
    commit_relay(*database, "203.0.113.12");
    CHECK(current_revision(*database.open(OpenMode::read)) == 2);
    CHECK_THAT(write_while([&] { std::filesystem::remove(database.path()); }),
               Catch::Contains("was removed meanwhile"));
}

TEST_CASE("sqlite: a file that was moved away is gone on with when it comes back") {
    ScratchDatabase database;
    const auto follower = database.open();
    REQUIRE(follower->wake_descriptor() != -1);
    database.close();
    const auto move_all = [&](const std::string& from, const std::string& to) {
        for (const char* part : {"", "-wal", "-shm"})
            std::filesystem::rename(database.path() + from + part, database.path() + to + part);
    };
    move_all("", ".moved");
    CHECK_THAT(failure([&] { follower->changed(); }), Catch::Contains("was removed"));
    move_all(".moved", "");
    CHECK_FALSE(news(*follower));
    commit_relay(*database.open(), "203.0.113.10");
    CHECK(woken(*follower));
}

TEST_CASE("sqlite: a file that is replaced beside the log of the old one is not touched") {
    ScratchDatabase database;
    commit_relay(*database, "203.0.113.10");
    database->query(fmt::format("VACUUM INTO '{}.backup'", database.path()), {});
    commit_relay(*database, "203.0.113.11");
    const auto follower = database.open();
    database.close();
    const auto content = [&] {
        std::ifstream file(database.path(), std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(file), {});
    };
    std::filesystem::rename(database.path() + ".backup", database.path());
    const std::string restored = content();
    for (int again = 0; again < 2; ++again) {
        CHECK_THAT(failure([&] { follower->changed(); }),
                   Catch::Contains("was replaced") && Catch::Contains(database.path() + "-wal"));
    }
    CHECK(content() == restored);
    for (const char* log : {"-wal", "-shm"}) std::filesystem::remove(database.path() + log);
    CHECK(news(*follower));
    CHECK(current_revision(*follower) == 1);
}

TEST_CASE("sqlite: a file that somebody writes over is read anew, and told when it is none") {
    ScratchDatabase database;
    commit_relay(*database, "203.0.113.10");
    database->query("PRAGMA wal_checkpoint(TRUNCATE)", {});
    const auto follower = database.open();
    CHECK(relays(*follower).size() == 1);
    CHECK_FALSE(news(*follower));
    std::ofstream(database.path()) << std::string(32768, 'x');
    CHECK_THAT(failure([&] {
                   follower->changed();
                   current_revision(*follower);
               }),
               Catch::StartsWith("corrupt: "));
}

TEST_CASE("sqlite: a restored file that is none leaves the session where it was") {
    ScratchDatabase database;
    commit_relay(*database, "203.0.113.10");
    const auto follower = database.open();
    std::ofstream(database.path() + ".bad") << std::string(8192, 'x');
    database.close();
    for (const char* log : {"-wal", "-shm"}) std::filesystem::remove(database.path() + log);
    std::filesystem::rename(database.path() + ".bad", database.path());
    CHECK_THAT(failure([&] { follower->changed(); }), Catch::StartsWith("corrupt: "));
    CHECK(current_revision(*follower) == 1);
    CHECK_THAT(failure([&] { follower->changed(); }), Catch::StartsWith("corrupt: "));
}

TEST_CASE("sqlite: several processes may create the same database at once") {
    ScratchFolder folder;
    const std::string url = "sqlite:" + folder.file("new.db");
    std::vector<pid_t> children;
    for (int i = 0; i < 4; ++i) {
        const pid_t child = fork();
        if (child == 0) {
            const std::string result = failure([&] { migrate(*open_database(url, OpenMode::create)); });
            if (result != "done") std::fprintf(stderr, "%s\n", result.c_str());
            _exit(result == "done" ? 0 : 1);
        }
        children.push_back(child);
    }
    for (pid_t child : children) {
        int status = 1;
        waitpid(child, &status, 0);
        CHECK(status == 0);
    }
    CHECK(open_database(url, OpenMode::write)->schema_version() == schema_version);
}

TEST_CASE("sqlite: another thread interrupts what a session runs, and the session goes on") {
    ScratchDatabase database;
    std::atomic<bool> runs = false;
    std::thread other([&] {
        while (!runs) std::this_thread::yield();
        database->interrupt();
    });
    const std::string failed = failure([&] {
        database->query("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n", {},
                        [&](const Row&) { runs = true; });
    });
    other.join();
    CHECK(failed.starts_with("failed: "));
    CHECK(failed.find("interrupted") != std::string::npos);
    commit_relay(*database, "203.0.113.10");
    CHECK(current_revision(*database) == 1);
}
