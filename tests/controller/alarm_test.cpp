#include "controller/alarm.hpp"

#include <poll.h>

#include <catch2/catch.hpp>

using namespace smtpfence;

namespace {

bool readable(const Alarm& alarm, int milliseconds) {
    pollfd descriptor{alarm.descriptor(), POLLIN, 0};
    return poll(&descriptor, 1, milliseconds) == 1;
}

}  // namespace

TEST_CASE("alarm: wakes at the time of day and is quiet before it and after another time is set") {
    Alarm alarm;
    alarm.set(now() + Seconds{3600});
    CHECK_FALSE(readable(alarm, 0));
    const Instant soon = now() + Seconds{1};
    alarm.set(soon);
    CHECK(readable(alarm, 30000));
    CHECK(now() >= soon);
    alarm.set(Instant::max());
    CHECK_FALSE(readable(alarm, 0));
    alarm.set(now() - Seconds{5});
    CHECK(readable(alarm, 30000));
    alarm.set(std::nullopt);
    CHECK_FALSE(readable(alarm, 0));
}
