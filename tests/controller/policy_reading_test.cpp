#include "controller/policy_reading.hpp"

#include <poll.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <thread>

#include "controller/followed_router.hpp"
#include "subscribers/revision.hpp"

using namespace smtpfence;

namespace {

bool rings(const PolicyReading& reading) {
    pollfd descriptor{reading.descriptor(), POLLIN, 0};
    return poll(&descriptor, 1, 30000) == 1;
}

}  // namespace

TEST_CASE("policy_reading: it reads what its caller would read, and says when it is over") {
    ExemptRouter router;
    const Instant time = now();
    PolicyReading reading(router.database.url(), time);
    REQUIRE(rings(reading));
    CHECK_FALSE(reading.taken());
    reading.help(*router.database);
    const auto whole = reading.take();
    REQUIRE(whole);
    const Policy policy = read_policy(*router.database, time);
    CHECK(whole->policy.rights == policy.rights);
    CHECK(whole->policy.rights.size() == 2);
    CHECK(whole->policy.pools == policy.pools);
    CHECK(whole->policy.relays == policy.relays);
    CHECK(whole->policy.revision == policy.revision);
    CHECK(whole->mark == revision_mark(*router.database, policy.revision));
    CHECK(whole->time == time);
    CHECK(reading.taken());
    CHECK(reading.over());
    CHECK_FALSE(reading.take());
}

TEST_CASE("policy_reading: with its owner's help it reads the same, wherever they meet") {
    ExemptRouter router;
    router.grant_many(12'000);
    const Instant time = now();
    const Policy policy = read_policy(*router.database, time);
    REQUIRE(policy.rights.size() == 12'002);
    for (const int milliseconds : {0, 1, 2, 5, 10, 20, 50, 100}) {
        PolicyReading reading(router.database.url(), time);
        std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
        reading.help(*router.database);
        const auto whole = reading.take();
        REQUIRE(whole);
        CHECK(whole->policy.rights == policy.rights);
        CHECK(whole->policy.revision == policy.revision);
    }
}

TEST_CASE("policy_reading: an owner who sees another revision leaves the rest to the thread") {
    ExemptRouter router;
    const Instant time = now();
    PolicyReading reading(router.database.url(), time);
    REQUIRE(rings(reading));
    router.revoke("c1");
    reading.help(*router.database);
    const auto whole = reading.take();
    REQUIRE(whole);
    CHECK(whole->policy.rights.size() == 2);
    CHECK(whole->policy.revision + 1 == current_revision(*router.database));
}

TEST_CASE("policy_reading: a database that can't be read is a reading without result") {
    const ScratchFolder folder;
    ScratchDatabase other;
    PolicyReading reading("sqlite:" + folder.file("missing.db"), now());
    REQUIRE(rings(reading));
    CHECK_FALSE(reading.take());
}

TEST_CASE("policy_reading: one that nobody waits for ends with its owner") {
    ExemptRouter router;
    for (int turn = 0; turn < 20; ++turn) PolicyReading(router.database.url(), now());
    router.revoke("c1");  // no reader is left that holds anything
    CHECK(read_policy(*router.database, now()).rights.empty());
}
