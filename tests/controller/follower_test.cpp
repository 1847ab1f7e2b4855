#include "controller/follower.hpp"

#include <poll.h>

#include <catch2/catch.hpp>

#include "subscribers/fenced.hpp"
#include "subscribers/scratch.hpp"

using namespace smtpfence;
using namespace std::chrono_literals;

namespace {

constexpr Steady::time_point start{1000s};

void add(Database& database, const char* prefix) {
    committed(database, [&](Change& change) { add_relay(change, Prefix::parse(prefix), {}, {}); });
}

/// Waits for the descriptor, as the service's loop does.
void hear(Follower& follower) {
    pollfd descriptor{follower.descriptor(), POLLIN, 0};
    REQUIRE(poll(&descriptor, 1, 30000) == 1);
    follower.wake();
}

/// Looks as the loop does, on failure too.
std::string looked(Follower& follower, Steady::time_point t) {
    if (!follower.due(t)) return "not due";
    std::string failed = failure([&] {
        follower.look(t, {});
        follower.succeeded();
    });
    if (failed != "done") follower.failed(t);
    return failed;
}

}  // namespace

TEST_CASE("follower: the opening is news, then only what others commit") {
    ScratchDatabase database;
    Follower follower(database.url(), 5s);
    CHECK(follower.descriptor() == -1);
    CHECK(follower.due(start));
    CHECK(follower.look(start, Revision{0}));
    CHECK_FALSE(follower.look(start, Revision{0}));
    CHECK(follower.next(start) == start + 5s);

    add(*database, "203.0.113.10");
    hear(follower);
    CHECK(follower.look(start, Revision{0}));
    CHECK_FALSE(follower.look(start + 1s, Revision{1}));
    CHECK(follower.next(start + 1s) > start + 1s);

    add(follower.session(), "203.0.113.11");
    CHECK_FALSE(follower.drain());
    pollfd descriptor{follower.descriptor(), POLLIN, 0};
    CHECK(poll(&descriptor, 1, 0) == 0);
}

TEST_CASE("follower: a commit that is being written while something else is looked for is not missed") {
    ScratchDatabase database;
    Follower follower(database.url(), 60s);
    follower.look(start, Revision{0});
    CHECK(follower.next(start) == start + 60s);
    SECTION("by a look that something else woke") {
        write_without_commit(*database);
        CHECK_FALSE(follower.look(start, Revision{0}));
        CHECK(follower.next(start) < start + 1ms);
    }
    SECTION("by a look that finds another's commit") {
        add(*database.open(), "203.0.113.11");
        write_without_commit(*database);
        CHECK(follower.look(start, Revision{0}));
        CHECK(follower.next(start) < start + 10ms);
    }
    SECTION("by own commits") {
        add(follower.session(), "203.0.113.11");
        write_without_commit(*database);
        CHECK_FALSE(follower.drain());
        database->commit();
        hear(follower);
        CHECK(follower.look(start, Revision{0}));
        return;
    }
    database->commit();
    CHECK(follower.look(follower.next(start), Revision{0}));
}

TEST_CASE("follower: a wake-up without news is asked about again, more and more seldom, and not for ever") {
    ScratchDatabase database;
    Follower follower(database.url(), 60s);
    follower.look(start, Revision{0});
    Steady::time_point t = start + 1s;
    Steady::duration pause{};
    write_without_commit(*database);
    hear(follower);
    int looks = 0;
    while (!follower.look(t, Revision{0}) && follower.next(t) < start + 60s) {
        CHECK(follower.next(t) - t > pause);
        pause = follower.next(t) - t;
        t += pause;
        ++looks;
    }
    CHECK(looks == 17);
    CHECK(t - start < 16s);
}

TEST_CASE("follower: who only opens the database and reads wakes once at most") {
    ScratchDatabase database;
    Follower follower(database.url(), 60s);
    follower.look(start, Revision{0});
    current_revision(*database.open());
    CHECK_FALSE(follower.look(start, Revision{0}));
    CHECK(follower.next(start) == start + 60s);
}

TEST_CASE("follower: a commit whose disk is slow is seen when as much time has passed again") {
    ScratchDatabase database;
    Follower follower(database.url(), 60s);
    follower.look(start, Revision{0});
    write_without_commit(*database);
    hear(follower);
    Steady::time_point t = start;
    while (t < start + 2s) {
        REQUIRE_FALSE(follower.look(t, Revision{0}));
        t = follower.next(t);
    }
    database->commit();
    CHECK(follower.look(t, Revision{0}));
    CHECK(t <= start + 4s);
}

TEST_CASE("follower: the poll finds a revision that nothing told of") {
    ScratchDatabase database;
    Follower follower(database.url(), 5s);
    follower.look(start, Revision{0});
    CHECK_FALSE(follower.look(start + 4s, Revision{7}));
    CHECK(follower.look(start + 5s, Revision{7}));
}

TEST_CASE("follower: a database that can't be opened is tried again with bounded pauses") {
    ScratchFolder folder;
    Follower follower("sqlite:" + folder.file("none.db"), 5s);
    Steady::time_point t = start;
    for (const auto pause : {1s, 2s, 4s, 8s, 10s, 10s}) {
        CHECK_THAT(looked(follower, t), Catch::Contains("No such file"));
        CHECK(looked(follower, t) == "not due");
        CHECK(follower.next(t) == t + pause);
        t += pause;
    }
    migrate(*open_database(follower.url(), OpenMode::create));
    CHECK(looked(follower, t) == "done");
    CHECK(follower.next(t) == t + 5s);
}

TEST_CASE("follower: a file that is gone is said, and found when it comes back without waiting for the next try") {
    ScratchDatabase database;
    add(*database, "203.0.113.10");
    database->query("VACUUM INTO '" + database.path() + ".backup'", {});
    Follower follower(database.url(), 5s);
    REQUIRE(looked(follower, start) == "done");
    REQUIRE(follower.descriptor() != -1);
    database.close();

    for (const char* part : {"", "-wal", "-shm"}) std::filesystem::remove(database.path() + part);
    hear(follower);
    CHECK_THAT(looked(follower, start), Catch::Contains("was removed"));
    std::filesystem::rename(database.path() + ".backup", database.path());
    hear(follower);
    REQUIRE(follower.due(start));
    CHECK(follower.look(start, Revision{1}));
    CHECK(current_revision(follower.session()) == 1);
}

TEST_CASE("follower: another database is followed from its first look on") {
    ScratchDatabase one, two;
    add(*two, "203.0.113.10");
    Follower follower(one.url(), 60s);
    follower.look(start, Revision{0});
    follower.use(two.url(), two.open(), 5s);
    CHECK(follower.url() == two.url());
    CHECK(follower.look(start, Revision{1}));
    CHECK(current_revision(follower.session()) == 1);
    CHECK_FALSE(follower.look(start, Revision{1}));
    CHECK(follower.next(start) == start + 5s);
}
