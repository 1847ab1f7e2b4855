#include "controller/trusted_clock.hpp"

#include <catch2/catch.hpp>

using namespace smtpfence;
using namespace std::chrono_literals;

namespace {

const Instant switched_on = parse_instant("2027-01-01T00:00:00Z");
constexpr Seconds year = 365 * 24h;

/// A machine that is up for a day.
struct Machine {
    Seconds up{86400};
    Seconds wrong{};  ///< what somebody set its clock to, too late or too early
    bool synchronised = false;

    ClockReading reading() const { return {(switched_on + up + wrong).time_since_epoch(), up, synchronised}; }
    Instant right() const { return switched_on + up; }
};

struct WatchedClock {
    Machine machine;
    TrustedClock clock{machine.reading()};

    ClockEvent look() { return clock.look(machine.reading()); }
    ClockEvent after(Seconds time) {
        machine.up += time;
        return look();
    }
    ClockEvent set(Seconds step, bool synchronised = false) {
        machine.wrong += step;
        machine.synchronised = synchronised;
        return look();
    }
    /// How much rights are ahead of the right time.
    Seconds ahead() const { return clock.at(machine.up) - machine.right(); }
};

}  // namespace

TEST_CASE("trusted_clock: without a step it is the machine's, slewed or not") {
    WatchedClock watched;
    for (int i = 0; i < 100; ++i) {
        watched.machine.wrong += 1s;
        REQUIRE(watched.after(60s) == ClockEvent::none);
        REQUIRE(watched.ahead() == watched.machine.wrong);
        REQUIRE(watched.clock.ahead() == 0s);
    }
}

TEST_CASE("trusted_clock: a step of up to ten minutes is taken at once") {
    for (const Seconds step : {2s, -2s, 600s, -600s}) {
        WatchedClock watched;
        CHECK(watched.set(step) == ClockEvent::stepped);
        CHECK(watched.clock.step() == step);
        CHECK(watched.ahead() == step);
        CHECK(watched.clock.ahead() == 0s);
        CHECK(watched.look() == ClockEvent::none);
    }
    WatchedClock watched;
    watched.set(-90s);
    CHECK(watched.clock.words() == "the clock was set back by 90s: the ends of rights are set anew");
}

TEST_CASE("trusted_clock: a synchronised clock is taken, however far it was set") {
    for (const Seconds step : {year, -year}) {
        WatchedClock watched;
        CHECK(watched.set(step, true) == ClockEvent::stepped);
        CHECK(watched.ahead() == step);
    }
}

TEST_CASE("trusted_clock: a larger step is held, and time goes on") {
    for (const Seconds step : {601s, -601s, Seconds{year}, Seconds{-year}}) {
        WatchedClock watched;
        watched.after(60s);
        CHECK(watched.set(step) == ClockEvent::held);
        CHECK(watched.clock.held());
        CHECK(watched.clock.step() == step);
        const std::string words = watched.clock.words();
        for (int i = 0; i < 14; ++i) {
            REQUIRE(watched.after(60s) == ClockEvent::none);
            REQUIRE(watched.ahead() == 0s);
            REQUIRE(watched.clock.ahead() == step);
            REQUIRE(watched.clock.words() == words);
        }
    }
    WatchedClock watched;
    watched.set(year);
    CHECK(
        watched.clock.words() ==
        "the clock is 365d ahead of what it was, since 2027-01-02T00:00:00Z, and not synchronised: rights go on by the "
        "clock from before until it is, till 2027-01-02T00:15:00Z at the latest; if it is wrong, set it; see "
        "timedatectl or chronyc tracking");
}

TEST_CASE("trusted_clock: what is held is taken when it is synchronised, or after a quarter of an hour") {
    for (const Seconds step : {year, -year}) {
        WatchedClock watched;
        watched.set(step);
        watched.machine.synchronised = true;
        CHECK(watched.after(5s) == ClockEvent::taken);
        CHECK(watched.ahead() == step);
        CHECK(watched.clock.ahead() == 0s);
        CHECK(watched.clock.words().find("is taken, as it is synchronised") != std::string::npos);
        CHECK(watched.after(5s) == ClockEvent::none);

        WatchedClock bounded;
        bounded.set(step);
        CHECK(bounded.after(899s) == ClockEvent::none);
        CHECK(bounded.after(1s) == ClockEvent::taken);
        CHECK(bounded.clock.step() == step);
        CHECK(bounded.ahead() == step);
        CHECK(bounded.clock.words().find("is taken, as a quarter of an hour is over") != std::string::npos);
    }
}

TEST_CASE("trusted_clock: steps while it is held add up, and make the hold no longer") {
    WatchedClock watched;
    watched.set(400s);
    CHECK(watched.set(-year) == ClockEvent::held);
    CHECK(watched.ahead() == 400s);
    CHECK(watched.set(300s) == ClockEvent::none);
    CHECK(watched.clock.ahead() == 300s - year);
    CHECK(watched.after(900s) == ClockEvent::taken);
    CHECK(watched.clock.step() == 300s - year);
}

TEST_CASE("trusted_clock: who sets it right again ends the hold") {
    for (const Seconds rest : {0s, 1s, 120s, -600s}) {
        WatchedClock watched;
        watched.set(year);
        CHECK(watched.set(rest - year) == ClockEvent::went_back);
        CHECK_FALSE(watched.clock.held());
        CHECK(watched.ahead() == rest);
        CHECK(watched.look() == ClockEvent::none);
    }
}

TEST_CASE("trusted_clock: one that is before what was written last is never taken, however long it is held") {
    Machine machine;
    machine.wrong = -year;
    TrustedClock clock(machine.reading());
    REQUIRE(clock.not_before(machine.right()) == ClockEvent::held);
    CHECK(clock.words().find("at the latest") == std::string::npos);
    machine.up += 90000s;
    CHECK(clock.look(machine.reading()) == ClockEvent::none);
    CHECK(clock.at(machine.up) == machine.right());
    SECTION("but when it is synchronised") { machine.synchronised = true; }
    SECTION("or somebody sets it later than that") { machine.wrong = 700s; }
    CHECK(clock.look(machine.reading()) == ClockEvent::taken);
    CHECK(clock.at(machine.up) == machine.right() + machine.wrong);
}

TEST_CASE("trusted_clock: at the switched_on it is not before what was written last") {
    Machine machine;
    machine.wrong = -year;
    TrustedClock clock(machine.reading());
    CHECK(clock.not_before(machine.right()) == ClockEvent::held);
    CHECK(clock.at(machine.up) == machine.right());
    CHECK(clock.ahead() == -year);
    CHECK(clock.step() == -year);
    TrustedClock soon_after(machine.reading());
    CHECK(soon_after.not_before(machine.right() - 3s) == ClockEvent::held);
    CHECK(soon_after.words().starts_with("the clock is 365d behind what it was, "));
    machine.up += 60s;
    CHECK(clock.look(machine.reading()) == ClockEvent::none);
    CHECK(clock.at(machine.up) == machine.right());
    machine.wrong = 0s;  // as an NTP daemon does first
    CHECK(clock.look(machine.reading()) == ClockEvent::went_back);

    machine.wrong = -600s;
    TrustedClock little(machine.reading());
    CHECK(little.not_before(machine.right()) == ClockEvent::none);
    machine.wrong = -year;
    machine.synchronised = true;
    TrustedClock synchronised(machine.reading());
    CHECK(synchronised.not_before(machine.right()) == ClockEvent::none);
    CHECK(synchronised.at(machine.up) == machine.right() - year);
}

TEST_CASE("trusted_clock: the machine's reading is of now") {
    const ClockReading reading = read_clock();
    const TrustedClock clock(reading);
    CHECK(reading.boot <= uptime());
    CHECK(clock.at(uptime()) >= now() - 1s);
    CHECK(clock.at(reading.boot) <= now());
}
