#pragma once
// Policies and borders for tests: one that reads like a small ISP, and random ones.

#include <random>

#include "rules/difference.hpp"

namespace smtpfence {

/// "2027-01-01T00:00:00Z"; the clock of tests that have no kernel.
Instant test_time();

/// Two relays, pools of every action in both families (one nested), some rights with and without an end.
Policy small_policy(Instant now);
Border small_border();

/// Any state: overlapping pools, relays, rights of any length that end soon, late or (nearly) never.
Policy random_policy(std::mt19937& random, Instant now);
Border random_border(std::mt19937& random);

/// `count` exempt IPv4 addresses, 100.64.0.0 upwards, that end in a year.
Policy many_rights(uint32_t count, Instant now);

/// The first thing that difference() would do now, in words; empty when nothing is left to do.
std::string left_to_do(const Fence& actual, const Fence& desired);

}  // namespace smtpfence
