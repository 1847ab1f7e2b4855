#include <fcntl.h>
#include <fmt/format.h>
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

using namespace smtpfence;

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

TEST_CASE("sqlite: the database of another program is refused as it is") {
    ScratchFolder folder;
    const std::string path = folder.file("other.db");
    {
        const auto theirs = open_database("sqlite:" + path, OpenMode::create);
        theirs->query("CREATE TABLE theirs (a INTEGER)", {});
        theirs->query("PRAGMA journal_mode = DELETE", {});
    }
    const auto content = [&] {
        std::ifstream file(path, std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(file), {});
    };
    const std::string before = content();
    for (OpenMode mode : {OpenMode::read, OpenMode::write, OpenMode::create}) {
        CHECK_THAT(failure([&] { open_database("sqlite:" + path, mode); }), Catch::Contains("another program"));
    }
    CHECK(content() == before);
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
    commit_relay(*database, "203.0.113.10");
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
    CHECK_THAT(failure([&] { commit_relay(*reader, "203.0.113.10"); }), Catch::StartsWith("denied: "));
    CHECK(current_revision(*reader) == 0);
}

TEST_CASE("sqlite: a full disk takes back the whole change and leaves the session usable") {
    ScratchDatabase database;
    commit_relay(*database, "203.0.113.10");
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

TEST_CASE("sqlite: a large write that is taken back leaves no long log, and waits for nobody to shorten it") {
    ScratchDatabase database;
    commit_relay(*database, "203.0.113.10");
    const auto log_size = [&] { return std::filesystem::file_size(database.path() + "-wal"); };
    const auto write_and_take_back = [&] {
        Change change(*database, alice, "test");
        database->query("CREATE TABLE filler (content BLOB)", {});
        for (int i = 0; i < 45; ++i) database->query("INSERT INTO filler VALUES (zeroblob(1000000))", {});
        CHECK(log_size() > 4 << 20);
    };
    write_and_take_back();
    CHECK(log_size() == 0);
    CHECK(current_revision(*database) == 1);
    commit_relay(*database, "203.0.113.11");
    {
        const auto reader = database.open(OpenMode::read);
        const Reading reading(*reader);
        commit_relay(*database, "203.0.113.12");
        const auto begin = std::chrono::steady_clock::now();
        write_and_take_back();
        CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(8));
        CHECK(log_size() > 0);
        CHECK(current_revision(*reader) == 2);
    }
    write_and_take_back();
    CHECK(log_size() == 0);
    CHECK(current_revision(*database) == 3);
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
              commit_relay(*database, "203.0.113.10");
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

namespace {

/// Another process that holds a database's lock.
class Holder {
public:
    /// When it returns, the process has opened a session and called `lock` on it.
    Holder(const ScratchDatabase& database, const std::function<void(Database&)>& lock) {
        REQUIRE((pipe(ready_) == 0 && pipe(done_) == 0));
        pid_ = fork();
        char byte = 'x';
        if (pid_ == 0) {
            const auto session = database.open();
            lock(*session);
            const bool told = write(ready_[1], &byte, 1) == 1 && read(done_[0], &byte, 1) == 1;
            _exit(told ? 0 : 1);
        }
        REQUIRE(read(ready_[0], &byte, 1) == 1);
    }
    ~Holder() {
        for (int end : {ready_[0], ready_[1], done_[0], done_[1]}) close(end);
    }
    Holder(const Holder&) = delete;
    Holder& operator=(const Holder&) = delete;

    std::string words() const { return fmt::format("by process {} (", pid_); }
    void let_go() {
        const char byte = 'x';
        REQUIRE(write(done_[1], &byte, 1) == 1);
        int status = 1;
        waitpid(pid_, &status, 0);
        CHECK(status == 0);
    }

private:
    int ready_[2] = {}, done_[2] = {};
    pid_t pid_ = -1;
};

}  // namespace

TEST_CASE("sqlite: a lock that stays is told with its holder") {
    ScratchDatabase database;
    Holder holder(database, [](Database& session) { session.begin_writing(); });
    const auto begin = std::chrono::steady_clock::now();
    const std::string message = failure([&] { commit_relay(*database, "203.0.113.10"); });
    CHECK(std::chrono::steady_clock::now() - begin > std::chrono::seconds(9));
    CHECK_THAT(message,
               Catch::StartsWith("locked: ") && Catch::Contains(database.path()) && Catch::Contains(holder.words()));
    CHECK(relays(*database).empty());  // reading goes on meanwhile
    holder.let_go();
    commit_relay(*database, "203.0.113.10");
}

TEST_CASE("sqlite: the holder of a lock is told under a symbolic link, too") {
    ScratchDatabase database;
    ScratchFolder folder;
    std::filesystem::create_symlink(database.path(), folder.file("link.db"));
    const auto session = open_database("sqlite:" + folder.file("link.db"), OpenMode::write, service_patience);
    Holder holder(database, [](Database& other) { other.begin_writing(); });
    CHECK_THAT(failure([&] { session->begin_writing(); }),
               Catch::Contains(folder.file("link.db") + " has been locked " + holder.words()));
    holder.let_go();
}

TEST_CASE("sqlite: who reports doesn't wait for a lock, and is told its holder when it stays") {
    ScratchDatabase database;
    const auto session = database.open();
    Holder holder(database, [](Database& other) { other.begin_writing(); });
    const auto begin = std::chrono::steady_clock::now();
    const std::string first = failure([&] { session->begin_reporting(); });
    CHECK_THAT(first, Catch::StartsWith("busy: ") && Catch::Contains(database.path() + " is being written to; "));
    CHECK(relays(*session).empty());
    std::string last = first;
    for (int i = 0; i < 20 && last == first; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        last = failure([&] { session->begin_reporting(); });
    }
    CHECK(std::chrono::steady_clock::now() - begin >= std::chrono::seconds(1));
    CHECK_THAT(last, Catch::StartsWith("locked: ") && Catch::Contains(holder.words()) && Catch::Contains("for 1 s"));
    holder.let_go();
    session->begin_reporting();
    session->commit();
    Holder again(database, [](Database& other) { other.begin_writing(); });
    CHECK(failure([&] { session->begin_reporting(); }) == first);
    again.let_go();
}

TEST_CASE("sqlite: a session of little patience is opened at once or not at all") {
    ScratchDatabase database;
    database.close();
    Holder holder(database, [](Database& session) {
        session.query("PRAGMA locking_mode = EXCLUSIVE", {});
        session.query("SELECT count(*) FROM relay", {});
        session.begin_writing();
    });
    const auto begin = std::chrono::steady_clock::now();
    CHECK_THAT(failure([&] { open_database(database.url(), OpenMode::write, service_patience); }),
               Catch::StartsWith("locked: ") && Catch::Contains(holder.words()) && Catch::Contains("for 0.1 s"));
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(5));
    holder.let_go();
    const auto session = open_database(database.url(), OpenMode::write, service_patience);
    CHECK(relays(*session).empty());
}
