#include "controller/verifier.hpp"

#include <catch2/catch.hpp>
#include <cerrno>

#include "controller/followed_router.hpp"

using namespace smtpfence;
using namespace std::chrono_literals;

namespace {

struct WatchedRouter {
    Router router;
    Verifier verifier{router.kernel, router.enforcement};
    const Steady::time_point start = Steady::now();

    WatchedRouter() {
        router.enforcement.take();
        router.grant("c1");
        router.follow();
    }
    size_t verify(Steady::time_point t, Verifier::Sweep much = Verifier::Sweep::next) {
        return verifier.verify(now(), t, 60s, much);
    }
    void fail(int code, Steady::time_point t) { verifier.failed(KernelError(code, "transaction", "refused"), t); }
};

}  // namespace

TEST_CASE("verifier: what is over at once is tried again at once, the first time") {
    WatchedRouter watched;
    const Steady::time_point t = watched.start;
    const int code = GENERATE(ENOBUFS, EAGAIN, EINTR, ERESTART);
    watched.fail(code, t);
    CHECK(watched.verifier.due(t));
    CHECK(watched.verifier.thorough(t));
    watched.fail(code, t);
    CHECK_FALSE(watched.verifier.due(t));
    CHECK(watched.verifier.next(t) == t + 100ms);
    watched.verifier.succeeded();
    watched.fail(code, t);
    CHECK(watched.verifier.due(t));
}

TEST_CASE("verifier: what the kernel refuses is tried again after longer and longer pauses") {
    WatchedRouter watched;
    Steady::time_point t = watched.start;
    for (const Steady::duration pause : {100ms, 200ms, 400ms, 800ms, 1600ms, 3200ms, 5000ms, 5000ms}) {
        watched.fail(ENFILE, t);
        CHECK(watched.verifier.next(t) == t + pause);
        CHECK_FALSE(watched.verifier.due(t + pause - 1ms));
        t += pause;
        CHECK(watched.verifier.due(t));
    }
}

TEST_CASE("verifier: a thorough look is due once in a period, and sweeps behind it") {
    WatchedRouter watched;
    Steady::time_point t = watched.start + 2min;
    CHECK(watched.verifier.thorough(t));
    CHECK(watched.verify(t) == 0);
    CHECK_FALSE(watched.verifier.thorough(t));
    while (watched.router.enforcement.sweeping()) {
        CHECK(watched.verifier.next(t) < t + 60s);
        t = std::max(t + 1us, watched.verifier.next(t));
        watched.verify(t);
    }
    CHECK(watched.router.kernel.asked == 2);
    CHECK(watched.verifier.next(t) > t + 30s);
    watched.verifier.hurry();
    watched.verify(t, Verifier::Sweep::whole);
    CHECK_FALSE(watched.router.enforcement.sweeping());
    CHECK(watched.router.kernel.asked == 4);
}

TEST_CASE("verifier: the first sweep takes half of the time, later ones less than a twentieth, both in bursts") {
    WatchedRouter watched;
    Steady::time_point t = watched.start + 2min;
    const auto rest_after_a_piece = [&](std::chrono::milliseconds piece) {
        watched.router.kernel.answers_in = piece;
        watched.verifier.hurry();
        const Steady::time_point before = Steady::now();
        watched.verify(t);
        const Steady::duration took = Steady::now() - before;
        REQUIRE(watched.router.enforcement.sweeping());
        const Steady::duration rest = watched.verifier.next(t) - t;
        watched.router.kernel.answers_in = 0ms;
        watched.verify(t, Verifier::Sweep::whole);
        REQUIRE_FALSE(watched.router.enforcement.sweeping());
        t += 1min;
        return std::pair(rest, took);
    };
    const auto [first, took] = rest_after_a_piece(500ms);
    CHECK(first >= 2 * 500ms);
    CHECK(first <= 2 * took);
    const auto [none, short_piece] = rest_after_a_piece(0ms);
    CHECK((none == 0s || short_piece >= 500ms));
    const auto [later, also_took] = rest_after_a_piece(500ms);
    CHECK(later >= 21 * 500ms);
    CHECK(later <= 21 * also_took);
    CHECK(later > first);
}

TEST_CASE("verifier: whoever is deaf listens again at once") {
    WatchedRouter watched;
    watched.verify(watched.start);
    CHECK(watched.verifier.next(watched.start) > watched.start);
    watched.router.kernel.deafen();
    CHECK(watched.verifier.next(watched.start) == watched.start);
    watched.verify(watched.start);
    CHECK(watched.verifier.next(watched.start) > watched.start);
}
