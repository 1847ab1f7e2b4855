#include "controller/policy_reading.hpp"

#include <poll.h>

#include <catch2/catch.hpp>

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

TEST_CASE("policy_reading: a database that can't be read is a reading without result") {
    const ScratchFolder folder;
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
