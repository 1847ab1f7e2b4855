#include "controller/keeping.hpp"

#include <poll.h>

#include <catch2/catch.hpp>

#include "controller/followed_router.hpp"
#include "rules/fence_record.hpp"

using namespace smtpfence;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

constexpr Steady::time_point morning{1000s};

/// A router whose fence is kept.
struct KeptRouter : Router {
    ScratchFolder scratch;
    fs::path directory = scratch.file("state");
    Keeping keeping{directory};

    KeptRouter() {
        enforcement.take();
        enforcement.on_commit([this](const Transaction& transaction) { keeping.note(transaction, now()); });
        enforcement.on_take([this] { keeping.doubt(); });
        follow_and_note();
    }
    Revision follow_and_note() {
        const Revision revision = follow().revision;
        keeping.note(revision);
        return revision;
    }
    bool keep(Steady::time_point t = morning) { return keeping.keep(enforcement, now(), t); }
    /// Waits for the flush that runs.
    bool flushed(Steady::time_point t = morning) {
        pollfd bell{keeping.descriptor(), POLLIN, 0};
        REQUIRE(poll(&bell, 1, 10'000) == 1);
        return keep(t);
    }
    std::optional<Revision> reportable() { return keeping.reportable(enforcement.revision().value()); }
    std::optional<Snapshot> read() const {
        std::vector<std::string> complaints;
        auto snapshot = read_last_good(directory, now(), complaints);
        CHECK(complaints.empty());
        return snapshot;
    }
};

/// What stands in the way of a file's name.
struct Obstacle {
    explicit Obstacle(const fs::path& name) : path(name) { fs::create_directories(path / "in the way"); }
    ~Obstacle() { fs::remove_all(path); }
    fs::path path;
};

}  // namespace

TEST_CASE("keeping: a first fence is reportable when it is on disk") {
    KeptRouter router;
    CHECK_FALSE(router.keep());
    CHECK_FALSE(router.reportable());
    CHECK_FALSE(router.read());
    router.keeping.flush(morning);
    CHECK_FALSE(router.flushed());
    CHECK(router.reportable() == 1);
    CHECK(router.read()->revision == 1);
    CHECK(router.keeping.next(morning) == Steady::time_point::max());
}

TEST_CASE("keeping: behind a file that was read there is nothing to do until something else is in force") {
    KeptRouter router;
    router.keeping.finish(router.enforcement, now(), morning);
    Router unread;
    unread.enforcement.take();
    Keeping again{router.directory};
    again.resume(*router.read());
    CHECK_FALSE(again.keep(unread.enforcement, now(), morning));
    CHECK(again.next(morning) == Steady::time_point::max());
    again.note(2);
    CHECK(again.next(morning) == morning);
}

TEST_CASE("keeping: a grant is reportable at once, a revocation when it is on disk, and neither waits for the other") {
    KeptRouter router;
    router.keeping.finish(router.enforcement, now(), morning);
    router.grant("c1");
    CHECK(router.follow_and_note() == 2);
    router.keep();
    CHECK(router.reportable() == 2);
    router.keeping.flush(morning);
    router.revoke("c1");
    CHECK(router.follow_and_note() == 3);
    router.keep();
    CHECK(router.reportable() == 2);
    router.keeping.finish(router.enforcement, now(), morning);
    CHECK(router.reportable() == 3);

    router.grant("c1");
    router.follow_and_note();
    router.keep();
    CHECK(router.reportable() == 4);
    router.revoke("c1");
    router.follow_and_note();
    router.keep();
    router.keeping.flush(morning);
    router.grant("c1");
    router.follow_and_note();
    router.revoke("c1");
    CHECK(router.follow_and_note() == 7);
    CHECK(router.reportable() == 4);
    router.flushed();
    CHECK(router.reportable() == 5);  // what was taken again is not on disk yet
    router.keeping.flush(morning);
    router.flushed();
    CHECK(router.reportable() == 7);
    CHECK(router.read()->revision == 7);
}

TEST_CASE("keeping: what somebody else took and the database took too is not kept") {
    KeptRouter router;
    router.grant("c1");
    router.follow_and_note();
    router.keeping.finish(router.enforcement, now(), morning);
    REQUIRE(router.read()->fence.sets.at("exempt4_32").elements.size() == 1);
    router.kernel.meddle([](Fence& table) { table.sets.at("exempt4_32").elements.clear(); });
    router.revoke("c1");
    router.enforcement.compare_all();
    router.follow_and_note();
    router.keeping.finish(router.enforcement, now(), morning);
    CHECK(same_record(router.read()->fence, router.kernel.read()));
}

TEST_CASE("keeping: what a table has lost is kept while no pass has put it right") {
    KeptRouter router;
    router.grant("c1");
    router.follow_and_note();
    router.keeping.finish(router.enforcement, now(), morning);
    const Fence whole = router.read()->fence;
    router.kernel.meddle([](Fence& table) {
        table.sets.at("exempt4_32").elements.clear();
        table.sets.at("pool4").elements.clear();
    });
    router.enforcement.compare_all();
    router.kernel.fail_commit(0, ENOMEM);
    CHECK_THROWS_AS(router.follow(), KernelError);
    router.keeping.finish(router.enforcement, now(), morning);
    CHECK(same_record(router.read()->fence, whole));
    router.follow_and_note();
    router.keeping.finish(router.enforcement, now(), morning);
    CHECK(same_record(router.read()->fence, whole));
    CHECK(same_record(router.kernel.read(), whole));
}

TEST_CASE("keeping: a disk that refuses is trouble until it takes the fence, what was taken isn't reported before") {
    KeptRouter router;
    router.keeping.finish(router.enforcement, now(), morning);
    router.grant("c1");
    router.follow_and_note();
    router.keeping.finish(router.enforcement, now(), morning);
    CHECK(router.reportable() == 2);
    {
        fs::remove(router.directory / "fence");  // the next one is written whole
        const Obstacle obstacle(router.directory / "fence");
        router.revoke("c1");
        router.follow_and_note();
        router.keep();
        router.keeping.flush(morning);
        CHECK(router.flushed());
        REQUIRE(router.keeping.trouble().reason());
        CHECK(router.keeping.next(morning) == morning + 1s);
        CHECK_FALSE(router.keep(morning + 999ms));
        CHECK_FALSE(router.keeping.finish(router.enforcement, now(), morning + 1s));  // the same reason is no news
        CHECK(router.keeping.trouble().reason());
        CHECK(router.keeping.next(morning + 1s) == morning + 3s);
        CHECK(router.reportable() == 2);
    }
    CHECK_FALSE(router.keeping.finish(router.enforcement, now(), morning + 2s));
    CHECK(router.keeping.finish(router.enforcement, now(), morning + 3s));
    CHECK_FALSE(router.keeping.trouble().reason());
    CHECK(router.reportable() == 3);
    CHECK(router.read()->revision == 3);
}

TEST_CASE("keeping: when the clock was set back, the file no longer tells of the time before") {
    KeptRouter router;
    router.keeping.note({}, now());
    router.keeping.finish(router.enforcement, now() + Seconds{86400}, morning);
    CHECK(router.read()->written > now() + Seconds{3600});
    router.keeping.write_anew();
    router.keeping.finish(router.enforcement, now(), morning);
    CHECK(router.read()->written <= now());
    CHECK(router.read()->revision == 1);
}

TEST_CASE("keeping: a start that goes on with its file writes nothing, and reports what the disk was asked for") {
    KeptRouter router;
    router.keeping.finish(router.enforcement, now(), morning);
    const auto written = fs::last_write_time(router.directory / "fence");
    Keeping again(router.directory);
    again.resume(*router.read());
    again.note(Revision{1});
    again.keep(router.enforcement, now(), morning);
    CHECK_FALSE(again.reportable(1));  // who wrote the file may have been killed before the disk had it
    again.finish(router.enforcement, now(), morning);
    CHECK(again.reportable(1) == 1);
    CHECK(fs::last_write_time(router.directory / "fence") == written);
}
