#include "controller/steady.hpp"

#include <catch2/catch.hpp>

using namespace smtpfence;
using namespace std::chrono_literals;

TEST_CASE("retry: pauses double up to the longest and begin anew after success") {
    Retry retry{1s, 3s};
    const Steady::time_point t{100s};
    CHECK(retry.due(t));
    for (const auto pause : {1s, 2s, 3s, 3s}) {
        retry.failed(t);
        CHECK(retry.at() == t + pause);
        CHECK_FALSE(retry.due(t + pause - 1ns));
        CHECK(retry.due(t + pause));
    }
    retry.succeeded();
    CHECK(retry.due(t));
    retry.failed(t);
    CHECK(retry.at() == t + 1s);
}
