#pragma once
// The chance in random tests, replayable: SMTPFENCE_SEED=N draws again what a failed test drew, which prints its N.
// tests/packets/seed.py is the same for tests in Python.

#include <cstdlib>
#include <iostream>
#include <random>

/// SMTPFENCE_SEED, else another number each time.
inline unsigned printed_seed() {
    const char* given = std::getenv("SMTPFENCE_SEED");
    const unsigned seed = given ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : std::random_device{}();
    std::cout << "SMTPFENCE_SEED=" << seed << std::endl;
    return seed;
}
