#include "subscribers/sqlite_file.hpp"

#include <fmt/format.h>
#include <poll.h>

#include "scratch.hpp"

using namespace smtpfence;
namespace files = std::filesystem;

/// A database under a symbolic link, in another folder than the file.
class LinkedDatabase {
public:
    LinkedDatabase() { point_to(file_.path()); }
    std::string link() const { return folder_.file("link.db"); }
    std::string file() const { return file_.path(); }
    std::unique_ptr<Database> open() const { return open_database("sqlite:" + link(), OpenMode::write); }
    ScratchDatabase& itself() { return file_; }
    void point_to(const std::string& path) const {
        files::create_symlink(path, link() + ".new");
        files::rename(link() + ".new", link());
    }

private:
    ScratchDatabase file_;
    ScratchFolder folder_;
};

static bool woken_by_commit(Database& database) {
    pollfd wake{database.wake_descriptor(), POLLIN, 0};
    return poll(&wake, 1, 2000) == 1 && database.changed() == Seen::commit;
}

TEST_CASE("sqlite_file: a database under a symbolic link wakes who follows it, whichever name the writer uses") {
    LinkedDatabase database;
    const auto follower = database.open(), by_link = database.open();
    REQUIRE(follower->wake_descriptor() != -1);
    follower->changed();
    commit_relay(*by_link, "203.0.113.10");
    CHECK(woken_by_commit(*follower));
    while (follower->changed() != Seen::nothing) {
    }
    commit_relay(*database.itself(), "203.0.113.11");
    CHECK(woken_by_commit(*follower));
    CHECK(follower->name() == "sqlite:" + database.link());
}

TEST_CASE("sqlite_file: a link that leads to another file is noticed and followed there") {
    LinkedDatabase database;
    ScratchDatabase other;
    commit_relay(*other, "203.0.113.10");
    const auto follower = database.open();
    REQUIRE(follower->wake_descriptor() != -1);
    follower->changed();
    database.point_to(other.path());
    CHECK(woken_by_commit(*follower));
    CHECK(current_revision(*follower) == 1);
    while (follower->changed() != Seen::nothing) {
    }
    commit_relay(*other, "203.0.113.11");
    CHECK(woken_by_commit(*follower));
    commit_relay(*database.itself(), "203.0.113.12");
    CHECK(follower->changed() == Seen::nothing);
    // The file goes elsewhere with its log, and the link after it.
    const auto follow_on = [&](const std::string& from, const std::string& to) {
        for (const char* part : {"", "-wal", "-shm"}) files::rename(from + part, to + part);
        database.point_to(to);
    };
    other.close();
    follow_on(other.path(), other.path() + ".moved");
    CHECK(woken_by_commit(*follower));
    commit_relay(*open_database("sqlite:" + other.path() + ".moved", OpenMode::write), "203.0.113.13");
    CHECK(woken_by_commit(*follower));
    CHECK(current_revision(*follower) == 3);
}

TEST_CASE("sqlite_file: under a symbolic link, too, a file is not touched beside the log of the old one") {
    LinkedDatabase database;
    commit_relay(*database.itself(), "203.0.113.10");
    database.itself()->query(fmt::format("VACUUM INTO '{}.backup'", database.file()), {});
    commit_relay(*database.itself(), "203.0.113.11");
    const auto follower = database.open();
    database.itself().close();
    files::rename(database.file() + ".backup", database.file());
    CHECK_THAT(failure([&] { follower->changed(); }), Catch::Contains(database.link() + ": the file was replaced") &&
                                                          Catch::Contains("remove it and " + database.file() + "-shm"));
    for (const char* log : {"-wal", "-shm"}) files::remove(database.file() + log);
    CHECK(follower->changed() == Seen::commit);
    CHECK(current_revision(*follower) == 1);
}
