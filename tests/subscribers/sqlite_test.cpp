#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "scratch.hpp"
#include "subscribers/customer.hpp"
#include "subscribers/fenced.hpp"

using namespace smtpfence;

static void add_note(Database& database, const std::string& prefix) {
    committed(database, [&](Change& change) { add_relay(change, Prefix::parse(prefix), {}, {}); });
}

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

TEST_CASE("sqlite: a file that is no database of ours is refused") {
    ScratchFolder folder;
    const std::string garbage = folder.file("garbage.db"), empty = folder.file("empty.db"),
                      other = folder.file("other.db");
    std::ofstream(garbage) << std::string(8192, 'x');
    std::ofstream(empty).flush();
    CHECK_THAT(failure([&] { open_database("sqlite:" + garbage, OpenMode::read); }),
               Catch::StartsWith("corrupt: ") && Catch::Contains("backup"));
    CHECK_THAT(failure([&] { open_database("sqlite:" + garbage, OpenMode::create); }), Catch::StartsWith("corrupt: "));
    CHECK_THAT(failure([&] { open_database("sqlite:" + empty, OpenMode::write); }),
               Catch::StartsWith("schema: ") && Catch::Contains("smtpfence init"));
    open_database("sqlite:" + other, OpenMode::create)->query("CREATE TABLE theirs (a INTEGER)", {});
    CHECK_THAT(failure([&] { open_database("sqlite:" + other, OpenMode::write); }),
               Catch::StartsWith("schema: ") && Catch::Contains("another program"));
    CHECK_THAT(failure([&] { migrate(*open_database("sqlite:" + other, OpenMode::create)); }),
               Catch::StartsWith("schema: ") && Catch::Contains("another program"));
    CHECK_THAT(failure([&] { open_database("sqlite:" + folder.file(""), OpenMode::read); }),
               Catch::Contains("Is a directory"));
}

TEST_CASE("sqlite: a damaged file is told as corrupt") {
    ScratchDatabase database;
    committed(*database, [](Change& change) {
        for (int i = 0; i < 2000; ++i) {
            assign(change, fmt::format("c{}", i), Prefix::parse(fmt::format("10.0.{}.{}", i / 250, i % 250)), {},
                   false);
        }
    });
    database.close();  // the last one to close moves the log into the file
    REQUIRE_FALSE(std::filesystem::exists(database.path() + "-wal"));
    const auto size = std::filesystem::file_size(database.path());
    {
        std::fstream file(database.path(), std::ios::in | std::ios::out | std::ios::binary);
        for (uintmax_t page = 8; page * 4096 < size; ++page) {
            file.seekp(static_cast<std::streamoff>(page * 4096));
            file << std::string(64, '\xa5');
        }
    }
    CHECK_THAT(failure([&] {
                   const auto damaged = database.open();
                   each_assignment(*damaged, {}, now(), [](const Assignment&) {});
               }),
               Catch::StartsWith("corrupt: ") && Catch::Contains(database.path()));
}

TEST_CASE("sqlite: who may not write is told so") {
    ScratchDatabase database;
    add_note(*database, "203.0.113.10");
    const auto folder = std::filesystem::path(database.path()).parent_path();
    const auto as_reader = [&](OpenMode mode, const std::function<void(Database&)>& work) {
        return in_another_process([&] { return failure([&] { work(*database.open(mode)); }); }, true);
    };
    const auto read = [](Database& session) {
        const Reading reading(session);
        relays(session);
    };
    database.close();

    std::filesystem::permissions(folder, std::filesystem::perms(0700));
    std::filesystem::permissions(database.path(), std::filesystem::perms(0400));
    const bool root = geteuid() == 0;  // otherwise the file is this user's own
    CHECK_THAT(as_reader(OpenMode::write, read), Catch::StartsWith("denied: ") && Catch::Contains(database.path()));

    std::filesystem::permissions(folder, std::filesystem::perms(0755));
    std::filesystem::permissions(database.path(), std::filesystem::perms(0444));
    CHECK_THAT(as_reader(OpenMode::write, read), Catch::StartsWith("denied: ") &&
                                                     Catch::Contains("Permission denied") &&
                                                     Catch::Contains(folder.string()));
    if (root) {
        // The log's index can't be made in a folder of somebody else.
        CHECK_THAT(as_reader(OpenMode::read, read), Catch::StartsWith("denied: ") && Catch::Contains(folder.string()));
        CHECK_THAT(in_another_process(
                       [&] {
                           return failure([&] {
                               open_database("sqlite:" + (folder / "sub" / "new.db").string(), OpenMode::create);
                           });
                       },
                       true),
                   Catch::StartsWith("denied: "));
    }
}

TEST_CASE("sqlite: a session opened for reading writes nothing") {
    ScratchDatabase database;
    const auto reader = database.open(OpenMode::read);
    CHECK_THAT(failure([&] { add_note(*reader, "203.0.113.10"); }), Catch::StartsWith("denied: "));
    CHECK(current_revision(*reader) == 0);
}

TEST_CASE("sqlite: a full disk takes back the whole change and leaves the session usable") {
    ScratchDatabase database;
    add_note(*database, "203.0.113.10");
    int64_t pages = 0;
    database->query("PRAGMA page_count", {}, [&](const Row& row) { pages = row.integer(0); });
    database->query(fmt::format("PRAGMA max_page_count = {}", pages + 5), {});
    const auto fill = [&] {
        committed(*database, [](Change& change) {
            for (int i = 0; i < 10000; ++i) {
                assign(change, fmt::format("c{}", i), Prefix::parse(fmt::format("10.0.{}.{}", i / 250, i % 250)), {},
                       false);
            }
        });
    };
    CHECK_THAT(failure(fill), Catch::StartsWith("full: ") && Catch::Contains("free space"));
    CHECK(current_revision(*database) == 1);
    CHECK(held_within(*database, "10.0.0.0/8"_p, now(), 10).empty());
    database->query("PRAGMA max_page_count = 1000000", {});
    fill();
    CHECK(current_revision(*database) == 2);
}

/// Leaves a chroot whose root is no mount point, where propagation can't be switched off, does so from the topmost
/// directory, and comes back.
static bool make_mounts_private() {
    const int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat here {
    }, above{};
    // A process is stopped at its root only while it stands below it: any directory that it stands above will do.
    if (root < 0 || chroot("/proc") != 0 || fchdir(root) != 0) return false;
    do {
        if (stat(".", &here) != 0 || chdir("..") != 0 || stat(".", &above) != 0) return false;
    } while (here.st_dev != above.st_dev || here.st_ino != above.st_ino);
    const bool made = chroot(".") == 0 && mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    return fchdir(root) == 0 && chroot(".") == 0 && close(root) == 0 && made;
}

/// In a mount namespace of this process: a file system of one megabyte.
static bool mount_small(const std::string& folder) {
    return unshare(CLONE_NEWNS) == 0 && make_mounts_private() &&
           mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=1m") == 0;
}

TEST_CASE("sqlite: a file system that is full takes back the whole change") {
    ScratchFolder folder;
    const std::string path = folder.file("");
    CHECK(in_another_process([&]() -> std::string {
              if (!mount_small(path)) return "can't mount";
              const auto database = open_database("sqlite:" + path + "small.db", OpenMode::create);
              migrate(*database);
              add_note(*database, "203.0.113.10");
              const std::string result = failure([&] {
                  for (int batch = 0; batch < 250; ++batch) {
                      committed(*database, [&](Change& change) {
                          for (int i = 0; i < 250; ++i) {
                              assign(change, fmt::format("c{}-{}", batch, i),
                                     Prefix::parse(fmt::format("10.0.{}.{}", batch, i)), {}, false);
                          }
                      });
                  }
              });
              int64_t held = 0;
              each_assignment(*database, {}, now(), [&](const Assignment&) { ++held; });
              // Whole batches, one revision each after the first.
              return fmt::format("{} {}", result.substr(0, result.find(':')),
                                 held == (current_revision(*database) - 1) * 250 ? "whole" : "torn");
          }) == "full whole");
}

TEST_CASE("sqlite: a lock that stays is told with its holder") {
    ScratchDatabase database;
    int ready[2], done[2];
    REQUIRE((pipe(ready) == 0 && pipe(done) == 0));
    const pid_t holder = fork();
    if (holder == 0) {
        char byte = 'x';
        const auto session = database.open();
        session->begin_writing();
        const bool told = write(ready[1], &byte, 1) == 1 && read(done[0], &byte, 1) == 1;
        _exit(told ? 0 : 1);
    }
    char byte = 0;
    REQUIRE(read(ready[0], &byte, 1) == 1);
    const auto begin = std::chrono::steady_clock::now();
    const std::string message = failure([&] { add_note(*database, "203.0.113.10"); });
    CHECK(std::chrono::steady_clock::now() - begin > std::chrono::seconds(9));
    CHECK_THAT(message, Catch::StartsWith("locked: ") && Catch::Contains(database.path()) &&
                            Catch::Contains(fmt::format("by process {} (", holder)));
    CHECK(relays(*database).empty());  // reading goes on meanwhile
    REQUIRE(write(done[1], &byte, 1) == 1);
    int status = 1;
    waitpid(holder, &status, 0);
    CHECK(status == 0);
    add_note(*database, "203.0.113.10");
    for (int end : {ready[0], ready[1], done[0], done[1]}) close(end);
}

TEST_CASE("sqlite: a session of little patience is opened at once or not at all") {
    ScratchDatabase database;
    database.close();
    int ready[2], done[2];
    REQUIRE((pipe(ready) == 0 && pipe(done) == 0));
    const pid_t holder = fork();
    if (holder == 0) {
        char byte = 'x';
        const auto session = database.open();
        session->query("PRAGMA locking_mode = EXCLUSIVE", {});
        session->query("SELECT count(*) FROM relay", {});
        session->begin_writing();
        const bool told = write(ready[1], &byte, 1) == 1 && read(done[0], &byte, 1) == 1;
        _exit(told ? 0 : 1);
    }
    char byte = 0;
    REQUIRE(read(ready[0], &byte, 1) == 1);
    const auto begin = std::chrono::steady_clock::now();
    CHECK_THAT(failure([&] { open_database(database.url(), OpenMode::write, service_patience); }),
               Catch::StartsWith("locked: ") && Catch::Contains(fmt::format("by process {} (", holder)) &&
                   Catch::Contains("for 0.1 s"));
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(5));
    REQUIRE(write(done[1], &byte, 1) == 1);
    int status = 1;
    waitpid(holder, &status, 0);
    CHECK(status == 0);
    const auto session = open_database(database.url(), OpenMode::write, service_patience);
    CHECK(relays(*session).empty());
    for (int end : {ready[0], ready[1], done[0], done[1]}) close(end);
}

TEST_CASE("sqlite: a reading sees one state from its beginning on") {
    ScratchDatabase database;
    const auto reader = database.open(OpenMode::read);
    {
        const Reading reading(*reader);
        add_note(*database, "203.0.113.10");
        CHECK(relays(*reader).empty());
        CHECK(current_revision(*reader) == 0);
    }
    CHECK(relays(*reader).size() == 1);
}

/// Whether the session is woken and sees a change within two seconds, as the service asks.
static bool woken(Database& database) {
    pollfd wake{database.wake_descriptor(), POLLIN, 0};
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    if (poll(&wake, 1, 2000) != 1) return false;
    while (std::chrono::steady_clock::now() < deadline) {
        if (database.changed()) return true;
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
    CHECK_FALSE(follower->changed());
    for (int i = 0; i < 20; ++i) {
        add_note(*database, fmt::format("203.0.113.{}", i));
        CHECK(woken(*follower));
        while (follower->changed()) {
        }
        CHECK(quiet(*follower));
    }
    add_note(*follower, "203.0.113.100");
    CHECK_FALSE(follower->changed());
    CHECK(quiet(*follower));
    // Both at once: the other one's still counts.
    add_note(*database, "203.0.113.101");
    add_note(*follower, "203.0.113.102");
    CHECK(woken(*follower));
}

TEST_CASE("sqlite: a log that is emptied and begun again still wakes") {
    ScratchDatabase database;
    const auto follower = database.open();
    REQUIRE(follower->wake_descriptor() != -1);
    for (int i = 0; i < 3; ++i) {
        database->query("PRAGMA wal_checkpoint(TRUNCATE)", {});
        while (follower->changed()) {
        }
        add_note(*database, fmt::format("203.0.113.{}", i));
        CHECK(woken(*follower));
    }
}

TEST_CASE("sqlite: a restored backup is noticed and read") {
    ScratchDatabase database;
    add_note(*database, "203.0.113.10");
    database->query(fmt::format("VACUUM INTO '{}.backup'", database.path()), {});
    add_note(*database, "203.0.113.11");
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
    CHECK_FALSE(follower->changed());

    add_note(*database.open(), "203.0.113.12");
    CHECK(woken(*follower));
    CHECK(current_revision(*follower) == 2);
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
    CHECK_FALSE(follower->changed());
    add_note(*database.open(), "203.0.113.10");
    CHECK(woken(*follower));
}

TEST_CASE("sqlite: a file that is replaced beside the log of the old one is not touched") {
    ScratchDatabase database;
    add_note(*database, "203.0.113.10");
    database->query(fmt::format("VACUUM INTO '{}.backup'", database.path()), {});
    add_note(*database, "203.0.113.11");
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
    CHECK(follower->changed());
    CHECK(current_revision(*follower) == 1);
}

TEST_CASE("sqlite: a file that somebody writes over is read anew, and told when it is none") {
    ScratchDatabase database;
    add_note(*database, "203.0.113.10");
    database->query("PRAGMA wal_checkpoint(TRUNCATE)", {});
    const auto follower = database.open();
    CHECK(relays(*follower).size() == 1);
    CHECK_FALSE(follower->changed());
    std::ofstream(database.path()) << std::string(32768, 'x');
    CHECK_THAT(failure([&] {
                   follower->changed();
                   current_revision(*follower);
               }),
               Catch::StartsWith("corrupt: "));
}

TEST_CASE("sqlite: a restored file that is none leaves the session where it was") {
    ScratchDatabase database;
    add_note(*database, "203.0.113.10");
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
