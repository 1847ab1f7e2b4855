#include "controller/background.hpp"

#include <poll.h>

#include <catch2/catch.hpp>
#include <stdexcept>

using namespace smtpfence;

namespace {

bool rings(const Background& background, int milliseconds) {
    pollfd bell{background.descriptor(), POLLIN, 0};
    return poll(&bell, 1, milliseconds) == 1;
}

}  // namespace

TEST_CASE("background: a task runs beside its owner, and its end rings") {
    Background background;
    CHECK_FALSE(background.busy());
    for (int turn = 0; turn < 3; ++turn) {
        std::promise<void> gate;
        bool done = false;
        background.start([&] {
            gate.get_future().wait();
            done = true;
        });
        CHECK(background.busy());
        CHECK_FALSE(background.over());
        CHECK_FALSE(rings(background, 0));
        gate.set_value();
        REQUIRE(rings(background, 10'000));
        CHECK(background.over());
        background.end();
        CHECK(done);
        CHECK_FALSE(background.busy());
        CHECK_FALSE(rings(background, 0));
    }
}

TEST_CASE("background: what the task throws is thrown at its end") {
    Background background;
    background.start([] { throw std::runtime_error("the disk is gone"); });
    CHECK_THROWS_WITH(background.end(), "the disk is gone");
    CHECK_FALSE(background.busy());
    background.start([] {});
    background.end();
}

TEST_CASE("background: who lets go of it waits for its task") {
    bool done = false;
    {
        Background background;
        background.start([&] { done = true; });
    }
    CHECK(done);
}
