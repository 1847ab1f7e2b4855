#include "controller/waiting.hpp"

#include <catch2/catch.hpp>
#include <thread>

#include "subscribers/scratch.hpp"

using namespace smtpfence;
using namespace std::chrono_literals;

namespace {

void report(Database& database, const std::string& router, Revision revision, Seconds age = Seconds{0},
            std::optional<std::string> error = {}) {
    Report made;
    made.router = router;
    made.revision = revision;
    made.heartbeat = now() - age;
    made.error = error;
    made.version = "1";
    write_report(database, made);
}

std::vector<Awaited> await(Database& database, Revision revision, Seconds limit) {
    return await_routers(database, revision, std::chrono::steady_clock::now(), limit);
}

}  // namespace

TEST_CASE("waiting: with no router there is nothing to wait for") {
    ScratchDatabase database;
    const auto started = std::chrono::steady_clock::now();
    const auto answers = await(*database, 1, Seconds{30});
    CHECK(std::chrono::steady_clock::now() - started < 10s);
    CHECK(answers.empty());
    CHECK_FALSE(all_enforce(answers));
    CHECK(sentence(answers) == "not enforced: no router has reported");
}

TEST_CASE("waiting: a router at the revision or beyond it enforces") {
    ScratchDatabase database;
    report(*database, "edge1", 5);
    report(*database, "edge2", 6);
    const auto answers = await(*database, 5, Seconds{30});
    CHECK(all_enforce(answers));
    CHECK(json_of(answers)[1]["router"] == "edge2");
    CHECK(json_of(answers)[1]["enforced"] == true);
    CHECK(json_of(answers)[1]["milliseconds"].is_number());
    CHECK(sentence(answers).starts_with("enforced on edge1 in "));
}

TEST_CASE("waiting: a router that could not report while the database was locked is given the time to") {
    ScratchDatabase database;
    report(*database, "edge1", 5, heartbeat_limit);
    report(*database, "gone", 5, heartbeat_limit);
    const auto other = open_database(database.url(), OpenMode::write);
    other->begin_writing();
    std::thread import([&] {
        std::this_thread::sleep_for(1500ms);
        other->rollback();
        std::this_thread::sleep_for(200ms);
        report(*other, "edge1", 6);
    });
    database->begin_writing();
    database->rollback();
    const auto answers = await(*database, 6, Seconds{30});
    import.join();
    REQUIRE(answers.size() == 2);
    CHECK(answers[0].enforced);
    CHECK(answers[1].reason.starts_with("no heartbeat since "));
}

TEST_CASE("waiting: a router without a heartbeat is named at once") {
    ScratchDatabase database;
    report(*database, "edge1", 5);
    report(*database, "gone", 5, heartbeat_limit);
    const auto started = std::chrono::steady_clock::now();
    const auto answers = await(*database, 5, Seconds{30});
    CHECK(std::chrono::steady_clock::now() - started < 10s);
    CHECK_FALSE(all_enforce(answers));
    CHECK(sentence(answers).find("; not enforced on gone (no heartbeat since ") != std::string::npos);
}

TEST_CASE("waiting: a router that was heard of when it was committed is waited for, however old that gets") {
    ScratchDatabase database;
    report(*database, "edge1", 5, heartbeat_limit - Seconds{3});
    std::thread router([&] {
        auto session = database.open();
        std::this_thread::sleep_for(4500ms);
        report(*session, "edge1", 6);
    });
    const auto answers = await(*database, 6, Seconds{30});
    router.join();
    CHECK(all_enforce(answers));
}

TEST_CASE("waiting: a router that is late is named with its error") {
    ScratchDatabase database;
    report(*database, "edge1", 4, Seconds{0}, "kernel: set exempt4_32 is full");
    report(*database, "edge2", 4);
    const auto answers = await(*database, 5, Seconds{1});
    REQUIRE(answers.size() == 2);
    CHECK(answers[0].reason == "kernel: set exempt4_32 is full");
    CHECK(answers[1].reason == "still at revision 4, not yet at 5");
    CHECK(json_of(answers)[0]["milliseconds"].is_null());
}

TEST_CASE("waiting: ends as soon as the report of another session arrives") {
    ScratchDatabase database;
    report(*database, "edge1", 4);
    const auto started = std::chrono::steady_clock::now();
    std::thread router([&] {
        auto session = database.open();
        std::this_thread::sleep_for(50ms);
        report(*session, "edge1", 5);
    });
    const auto answers = await_routers(*database, 5, started, Seconds{30});
    router.join();
    REQUIRE(all_enforce(answers));
    CHECK(answers[0].milliseconds >= 40);
    CHECK(answers[0].milliseconds < 10000);
}

TEST_CASE("waiting: what a router's guard withholds is answered at once, and only that") {
    ScratchDatabase database;
    Report made;
    made.router = "edge1";
    made.revision = 5;
    made.heartbeat = now();
    made.version = "1";
    made.guard = R"({"digest":"abc","reason":"it would exempt 50 % of the fenced IPv4 space"})";
    write_report(*database, made);
    const std::vector<Prefix> held{Prefix::parse("100.64.3.7"), Prefix::parse("100.64.3.8")};
    write_withheld(*database, "edge1", held);
    const auto started = std::chrono::steady_clock::now();
    const auto answers = await_routers(*database, 5, started, Seconds{30}, {held});
    CHECK(std::chrono::steady_clock::now() - started < 10s);
    CHECK_FALSE(all_enforce(answers));
    CHECK(answers.at(0).reason ==
          "guard: 100.64.3.7/32 and 1 more is withheld: it would exempt 50 % of the fenced IPv4 space; if that is "
          "meant: smtpfence apply --confirm=abc");
    CHECK(all_enforce(await_routers(*database, 5, started, Seconds{30}, {{Prefix::parse("100.64.3.9")}})));
    CHECK_FALSE(all_enforce(await_routers(*database, 6, started, Seconds{0}, {held})));
}

TEST_CASE("waiting: a router by whose clock the right is over doesn't enforce it") {
    ScratchDatabase database;
    const Instant end = now() + Seconds{3600};
    Report made;
    made.router = "edge1";
    made.revision = 5;
    made.heartbeat = now();
    made.last_pass = end;
    write_report(*database, made);
    const auto answer = [&](Instant until) {
        const Granted granted{{Prefix::parse("100.64.3.7")}, until};
        return await_routers(*database, 5, std::chrono::steady_clock::now(), Seconds{30}, granted).at(0);
    };
    CHECK_FALSE(answer(end).enforced);
    CHECK(answer(end).reason == "clock: there it is " + format_instant(end) + ", and the right ended at " +
                                    format_instant(end) + ": see smtpfence status");
    CHECK(answer(end + Seconds{1}).enforced);
    CHECK(answer(Instant::max()).enforced);
}
