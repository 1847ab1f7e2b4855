#include "controller/gathering.hpp"

#include <catch2/catch.hpp>
#include <thread>

using namespace smtpfence;
using namespace std::chrono_literals;

namespace {

/// Passes of so much CPU time each, each as soon as there is a change and it may be; how many in a second.
struct StreamOfChanges {
    Gathering gathering;
    Steady::time_point t{1h};
    Steady::duration used{};
    Steady::duration longest_wait{};

    int passes_in_a_second(Steady::duration apart, Steady::duration cpu) {
        int passes = 0;
        const Steady::time_point begin = t;
        for (Steady::time_point change = t; change < begin + 1s; ++passes) {
            t = std::max(change, gathering.until());
            longest_wait = std::max(longest_wait, t - change);
            t += cpu;
            gathering.passed(t, used += cpu);
            while (change < t) change += apart;
        }
        return passes;
    }
};

}  // namespace

TEST_CASE("gathering: changes now and then don't wait") {
    StreamOfChanges changes;
    CHECK(changes.passes_in_a_second(10ms, 900us) == 100);
    changes.t += 10ms;
    CHECK(changes.passes_in_a_second(4ms, 300us) == 250);
    CHECK(changes.longest_wait == 0ms);
}

TEST_CASE("gathering: changes that come close together after a pause wait for a millisecond each") {
    StreamOfChanges changes;
    changes.passes_in_a_second(2ms, 1ms);
    changes.t += 10s;
    changes.used += 500ms;  // the sweeps of a large fence
    for (int change = 0; change < 5; ++change) {
        changes.gathering.passed(changes.t, changes.used += 1ms);
        CHECK(changes.gathering.until() == changes.t + 1ms);
        changes.t += 2ms;
    }
}

TEST_CASE("gathering: a storm is told in passes that take a tenth of the time, or come 8 ms apart") {
    StreamOfChanges cheap, dear;
    cheap.passes_in_a_second(2ms, 500us);
    const int passes = cheap.passes_in_a_second(2ms, 500us);
    CHECK(passes > 150);
    CHECK(passes <= 200);
    dear.passes_in_a_second(2ms, 2ms);
    CHECK(dear.passes_in_a_second(2ms, 2ms) == 100);
    CHECK(dear.longest_wait <= 8ms);
}

TEST_CASE("gathering: what took long is not paid off for longer than 8 ms, and an end is at once") {
    Gathering gathering;
    const Steady::time_point t{1h};
    CHECK(gathering.over(t));
    gathering.passed(t - 1s, 1s);
    gathering.passed(t, 11s);
    CHECK(gathering.until() == t + 8ms);
    CHECK_FALSE(gathering.over(t + 7ms));
    CHECK(gathering.over(t + 8ms));
    gathering.end();
    CHECK(gathering.over(t));
}

TEST_CASE("gathering: the CPU time used is that of all threads") {
    const Steady::duration before = used_cpu();
    std::thread([&] {
        volatile unsigned turns = 0;
        while (used_cpu() < before + 20ms) turns = turns + 1;
    }).join();
    CHECK(used_cpu() >= before + 20ms);
}
