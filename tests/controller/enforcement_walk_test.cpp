// Random walks of Enforcement: whatever happens in whatever order, following step by step ends where a full comparison
// ends.

#include <catch2/catch.hpp>
#include <random>

#include "controller/followed_router.hpp"
#include "seed.hpp"

using namespace smtpfence;
using namespace std::chrono_literals;

namespace {

/// A router and the chance that decides what happens to it.
struct Walk {
    const unsigned seed = printed_seed();
    std::mt19937 random{seed};
    Router router;

    Walk() {
        router.enforcement.replace_sets_from(2);
        router.enforcement.take();
    }
    int pick(int below) { return static_cast<int>(random() % static_cast<unsigned>(below)); }
};

void revoke_if_known(Change& change, const std::string& customer) {
    if (customer_exists(change.database(), customer)) revoke_exemption(change, customer, "walk");
}

}  // namespace

TEST_CASE("enforcement: while rights end, following step by step ends where a full comparison ends") {
    Walk walk;
    INFO("SMTPFENCE_SEED=" << walk.seed);
    Router& router = walk.router;
    const Instant start = now();
    Instant clock = start;
    size_t incremental = 0, ended = 0;
    for (int step = 0; step < 200; ++step) {
        // Ends stand further apart than what counts as the same end: `jitter`.
        const auto soon = [&] {
            const Seconds apart = jitter + Seconds{1};
            return start + apart * ((clock - start) / apart + 1 + walk.pick(20));
        };
        const std::string customer = "c" + std::to_string(walk.pick(6));
        const std::string address = "100.64.0." + std::to_string(walk.pick(8));
        for (int writes = walk.pick(3); writes > 0; --writes) {
            committed(*router.database, [&](Change& change) {
                const Prefix prefix = Prefix::parse(address);
                switch (walk.pick(5)) {
                    case 0:
                        assign(change, customer, prefix, {}, true);
                        break;
                    case 1:
                        release(change, prefix);
                        assign(change, customer, prefix, soon(), true);
                        break;
                    case 2:
                        release(change, prefix);
                        break;
                    case 3:
                        revoke_if_known(change, customer);
                        break;
                    default:
                        revoke_if_known(change, customer);
                        grant_exemption(change, {customer, "walk", {}, {}, {}, soon()});
                }
            });
        }
        clock += Seconds{walk.pick(20)};
        router.kernel.clock = clock;
        if (walk.pick(4) > 0) ended += router.enforcement.expire(clock);
        router.enforcement.verify(clock, walk.pick(10) == 0);
        const Pass pass = router.follow(clock);
        if (!pass.full) ++incremental;
        ended += router.enforcement.expire(clock);
        REQUIRE(router.differences(clock) == 0);
        REQUIRE(difference(router.enforcement.applied(), router.kernel.read(), clock).empty());
        if (const auto end = router.enforcement.next_end()) REQUIRE(*end > clock);
    }
    CHECK(incremental > 150);
    CHECK(ended > 0);
}

TEST_CASE("enforcement: following step by step ends where a fresh start ends") {
    Walk walk;
    INFO("SMTPFENCE_SEED=" << walk.seed);
    Router& router = walk.router;
    for (int step = 0; step < 150; ++step) {
        const std::string customer = "c" + std::to_string(walk.pick(6));
        const std::string address = "100.64." + std::to_string(walk.pick(3)) + "." + std::to_string(walk.pick(4));
        const auto write = [&](Change& change) {
            switch (walk.pick(8)) {
                case 0:
                case 1:
                    assign(change, customer, Prefix::parse(address), {}, true);
                    break;
                case 2:
                    release(change, Prefix::parse(address));
                    break;
                case 3:
                case 4:
                    grant_exemption(change, {customer, "walk", {}, {}, 3600s, {}});
                    break;
                case 5:
                    revoke_if_known(change, customer);
                    break;
                case 6:
                    if (pool_of(change.database(), "100.64.1.0/24"_p)->prefix.length() == 24) {
                        remove_pool(change, "100.64.1.0/24"_p);
                    } else {
                        add_pool(change, "100.64.1.0/24"_p, {}, static_cast<Action>(walk.pick(4)));
                    }
                    break;
                default:
                    if (!remove_relay(change, "192.0.2.1"_p)) add_relay(change, "192.0.2.1"_p, {}, {});
            }
        };
        for (int writes = walk.pick(4); writes >= 0; --writes) committed(*router.database, write);
        if (walk.pick(5) == 0) {
            router.enforcement.compare_all();
            committed(*router.database, [](Change& change) {
                for (int number = 0; number < 6; ++number) revoke_if_known(change, "c" + std::to_string(number));
            });
        }
        if (walk.pick(20) == 0) router.kernel.meddle([](Fence& table) { table.sets["pool4"].elements.clear(); });
        if (walk.pick(20) == 0) router.kernel.fail_commit(0, ENOMEM);
        for (int attempt = 0; attempt < 3; ++attempt) {
            try {
                router.enforcement.verify(now(), false);
                router.follow();
                break;
            } catch (const KernelError&) {
                CHECK(attempt < 2);
            }
        }
        REQUIRE(router.differences() == 0);
        REQUIRE(difference(router.enforcement.applied(), router.kernel.read(), now()).empty());
    }
    CHECK(router.ended_at_once() > 0);
}
