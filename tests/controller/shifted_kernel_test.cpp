#include "controller/shifted_kernel.hpp"

#include <catch2/catch.hpp>

#include "followed_router.hpp"
#include "rules/layout.hpp"

using namespace smtpfence;
using namespace std::chrono_literals;

namespace {

constexpr Seconds year = 365 * 24h;

/// A router whose machine's clock somebody set.
struct Stepped {
    Router router;
    ModelKernel* model = new ModelKernel(now());
    ShiftedKernel kernel{std::unique_ptr<Kernel>(model)};
    Enforcement enforcement{kernel, Border{}};

    Stepped() {
        enforcement.take();
        router.grant("c1", 3600s);
        enforcement.follow(*router.database, now());
    }
    void set_clock(Seconds step) {
        model->clock += step;
        model->meddle([&](Fence& table) {
            for (auto& [name, set] : table.sets) {
                for (auto& [key, held] : set.elements) {
                    if (held.until != never) held.until += step;
                }
            }
        });
        kernel.set_ahead(step);
    }
    /// By the clock that was set, as the kernel counts.
    Instant end(const char* prefix) {
        const Prefix key = Prefix::parse(prefix);
        return model->find(exempt_set_of(model->read(), key).value(), to_key(key)).value().second.until;
    }
};

}  // namespace

TEST_CASE("shifted_kernel: a clock that is held changes nothing in the kernel, forward or back") {
    for (const Seconds step : {1200s, -1200s, Seconds{year}, Seconds{-year}}) {
        Stepped stepped;
        const Instant end = stepped.enforcement.next_end().value();
        const size_t commits = stepped.model->commits.size();
        stepped.set_clock(step);
        CHECK(stepped.enforcement.clock_stepped(now()) == 0);
        CHECK(stepped.enforcement.follow(*stepped.router.database, now()).changes == 0);
        CHECK(stepped.model->commits.size() == commits);
        CHECK(stepped.end("100.64.3.7") == end + step);
        CHECK(stepped.enforcement.next_end() == end);
        CHECK(stepped.kernel.find("exempt4_32", to_key("100.64.3.7"_p)).value().second.until == end);
    }
}

TEST_CASE("shifted_kernel: while it is held, rights begin, end and are revoked by the clock from before") {
    for (const Seconds step : {Seconds{year}, Seconds{-year}}) {
        Stepped stepped;
        stepped.set_clock(step);
        committed(*stepped.router.database, [](Change& change) { assign(change, "c2", "100.64.3.8"_p, {}, false); });
        stepped.router.grant("c2", 7200s);
        const Instant asked = now();
        CHECK(stepped.enforcement.follow(*stepped.router.database, now()).changes == 1);
        CHECK(stepped.end("100.64.3.8") - (asked + step) <= 7200s);
        CHECK(stepped.end("100.64.3.8") - (asked + step) >= 7190s);
        const Instant end = stepped.enforcement.next_end().value();
        stepped.router.revoke("c2");
        CHECK(stepped.enforcement.follow(*stepped.router.database, now()).changes == 1);
        CHECK(stepped.enforcement.expire(end - 1s) == 0);
        CHECK(stepped.enforcement.expire(end) == 2);
    }
}

TEST_CASE("shifted_kernel: when the clock is taken, the ends are by it") {
    Stepped stepped;
    const Instant end = stepped.enforcement.next_end().value();
    Seconds step{};
    SECTION("back") { step = -year; }
    SECTION("forward") { step = 1200s; }
    stepped.set_clock(step);
    stepped.enforcement.clock_stepped(now());
    stepped.kernel.set_ahead(0s);
    CHECK(stepped.enforcement.clock_stepped(now() + step) == 4);
    CHECK(stepped.end("100.64.3.7") == end);
    CHECK(stepped.enforcement.next_end() == end);
}

TEST_CASE("shifted_kernel: when a clock that is past the ends is taken, the rights are over") {
    Stepped stepped;
    stepped.set_clock(year);
    stepped.enforcement.clock_stepped(now());
    stepped.kernel.set_ahead(0s);
    CHECK(stepped.enforcement.clock_stepped(now() + year) == 2);
    CHECK_FALSE(stepped.model->find("exempt4_32", to_key("100.64.3.7"_p)));
}
