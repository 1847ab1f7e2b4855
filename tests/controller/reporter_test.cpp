#include "controller/reporter.hpp"

#include <catch2/catch.hpp>
#include <filesystem>
#include <thread>

#include "rules/model_kernel.hpp"
#include "subscribers/scratch.hpp"

using namespace smtpfence;
using namespace std::chrono_literals;

namespace {

constexpr Steady::time_point start{1000s};
constexpr Seconds keep{180 * 86400};

struct Desk {
    ScratchDatabase database;
    ModelKernel kernel{now()};
    Reporter reporter{kernel};
    Report state;

    Desk() {
        state.router = "edge1";
        state.revision = 7;
        state.version = "1";
    }
    bool write(Steady::time_point t) {
        state.heartbeat = now();
        return reporter.write(*database, state, {state.heartbeat, keep}, t);
    }
};

}  // namespace

TEST_CASE("reporter: reports at once, then with each heartbeat, or when there is news") {
    Desk desk;
    CHECK(desk.reporter.next(start) == start);
    CHECK(desk.write(start));
    CHECK(reports(*desk.database).at(0).revision == 7);
    CHECK_FALSE(desk.write(start));
    CHECK(desk.reporter.next(start) == start + 5s);
    desk.state.revision = 8;
    CHECK_FALSE(desk.write(start + 4s));
    desk.reporter.hurry();
    CHECK(desk.reporter.next(start + 4s) == start + 4s);
    CHECK(desk.write(start + 4s));
    CHECK(reports(*desk.database).at(0).revision == 8);
    CHECK(desk.reporter.next(start + 4s) == start + 9s);

    desk.reporter.hurry();  // so soon behind the last one, it waits for more
    CHECK_FALSE(desk.write(start + 4s + 9ms));
    CHECK(desk.reporter.next(start + 4s + 9ms) == start + 4s + 10ms);
    CHECK(desk.write(start + 4s + 10ms));
}

TEST_CASE("reporter: a log that grew long is copied into the database beside it") {
    Desk desk;
    const auto reader = desk.database.open(OpenMode::read);
    reader->begin_reading();  // as an export does while a large import commits
    desk.database->begin_writing();
    desk.database->query("CREATE TABLE padding (bytes BLOB)", {});
    desk.database->query("INSERT INTO padding (bytes) VALUES (randomblob(40000000))", {});
    desk.database->commit();
    reader->rollback();
    const auto copied = [&] { return std::filesystem::file_size(desk.database.path()) > 40'000'000; };
    REQUIRE(desk.database->log_is_long());
    REQUIRE_FALSE(copied());
    CHECK(desk.write(start));
    for (int tries = 0; !copied() && tries < 3000; ++tries) std::this_thread::sleep_for(10ms);
    CHECK(copied());
    // What is written behind its end begins the log anew.
    for (int tries = 0; desk.database->log_is_long() && tries < 3000; ++tries) {
        std::this_thread::sleep_for(10ms);
        desk.database->begin_writing();
        desk.database->query("INSERT INTO padding (bytes) VALUES (NULL)", {});
        desk.database->commit();
    }
    CHECK_FALSE(desk.database->log_is_long());
}

TEST_CASE("reporter: answers what was asked, with what was done or what went wrong") {
    Desk desk;
    const int64_t well = request_apply(*desk.database, "edge1", alice);
    desk.reporter.asked(open_requests(*desk.database, "edge1"), 3);
    desk.write(start);
    CHECK(request_answer(*desk.database, well) == R"({"changes":3,"ok":true,"revision":7})");
    CHECK(open_requests(*desk.database, "edge1").empty());

    const int64_t badly = request_apply(*desk.database, "edge1", alice);
    desk.state.error = "kernel: no";
    desk.reporter.asked(open_requests(*desk.database, "edge1"), 0);
    desk.write(start);
    CHECK(request_answer(*desk.database, badly) == R"({"changes":0,"error":"kernel: no","ok":false,"revision":7})");
}

TEST_CASE("reporter: attempts are written in slices and never more often than they are read") {
    Desk desk;
    for (uint32_t number = 0; number < 2500; ++number) {
        const std::string address = "100.64." + std::to_string(number / 250) + "." + std::to_string(number % 250);
        desk.kernel.attempt("attempts4", to_key(Prefix::parse(address)), 1);
    }
    int writes = 0;
    while (desk.reporter.next(start) == start) {
        desk.write(start);
        ++writes;
    }
    CHECK(writes == 3);
    int64_t counted = 0;
    for (const Attempts& line : attempts(*desk.database, now() - 1h, {}, {})) counted += line.attempts;
    CHECK(counted == 2500);
    for (Steady::time_point t = start; t < start + 10s; t = desk.reporter.next(t)) {
        REQUIRE(desk.reporter.next(t) >= t);
        desk.write(t);
        if (++writes > 10) break;
    }
    CHECK(writes <= 6);
}

TEST_CASE("reporter: what can't be written is tried again after a pause, and is no failure of the reading") {
    Desk desk;
    const auto other = desk.database.open();
    other->begin_writing();
    CHECK_FALSE(desk.write(start));
    CHECK_FALSE(desk.write(start));
    CHECK(desk.reporter.next(start) == start + 1ms);
    other->rollback();
    CHECK(desk.write(start + 1ms));
    CHECK(reports(*desk.database).size() == 1);
}

TEST_CASE("reporter: whoever writes just now is asked again within 16 ms, who has for long within a second") {
    Desk desk;
    const auto other = desk.database.open();
    other->begin_writing();
    Steady::time_point t = start;
    for (int refused = 0; refused < 20; ++refused) {
        CHECK_FALSE(desk.write(t));
        CHECK(desk.reporter.next(t) > t);
        CHECK(desk.reporter.next(t) - t <= 16ms);
        t = desk.reporter.next(t);
    }
    std::this_thread::sleep_for(1100ms);  // the database's own measure of a long lock
    Steady::duration pause{};
    for (int refused = 0; refused < 12; ++refused) {
        CHECK_FALSE(desk.write(t));
        pause = desk.reporter.next(t) - t;
        t += pause;
    }
    CHECK(pause == 1s);
    other->rollback();
    CHECK(desk.write(t));
}

TEST_CASE("reporter: an answer that somebody else's writing puts off is given behind it, with what was done") {
    Desk desk;
    const int64_t number = request_apply(*desk.database, "edge1", alice);
    const auto requests = [&] { return desk.reporter.unheard(open_requests(*desk.database, "edge1")); };
    const auto other = desk.database.open();
    other->begin_writing();
    desk.reporter.asked(requests(), 3);
    CHECK_FALSE(desk.write(start));
    CHECK(requests().empty());
    const int64_t next = (other->rollback(), request_apply(*desk.database, "edge1", alice));
    REQUIRE(requests().size() == 1);
    desk.reporter.asked(requests(), 4);
    CHECK(desk.reporter.next(start + 1ms) == start + 1ms);
    CHECK(desk.write(start + 1ms));
    CHECK(request_answer(*desk.database, number) == R"({"changes":3,"ok":true,"revision":7})");
    CHECK(request_answer(*desk.database, next) == R"({"changes":4,"ok":true,"revision":7})");
    CHECK(open_requests(*desk.database, "edge1").empty());
}

TEST_CASE("reporter: a request comes again when the database failed before it was answered") {
    Desk desk;
    request_apply(*desk.database, "edge1", alice);
    desk.reporter.asked(open_requests(*desk.database, "edge1"), 3);
    desk.database->query("ALTER TABLE router RENAME TO elsewhere", {});
    CHECK_FALSE(desk.write(start));
    CHECK(desk.reporter.unheard(open_requests(*desk.database, "edge1")).size() == 1);
}
