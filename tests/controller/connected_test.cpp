#include "controller/connected.hpp"

#include <catch2/catch.hpp>

using namespace smtpfence;

TEST_CASE("connected: leaves out loopback and link-local addresses") {
    for (const Connected& one : connected_prefixes({})) {
        INFO(one.interface << " " << one.prefix.text());
        CHECK(one.interface != "lo");
        CHECK_FALSE(Prefix::parse("127.0.0.0/8").contains(one.prefix));
        CHECK_FALSE(Prefix::parse("fe80::/10").contains(one.prefix));
        CHECK(one.prefix.length() > 0);
    }
}

TEST_CASE("connected: only interfaces that match a pattern") {
    CHECK(connected_prefixes({"no-such-interface", "nor-this*"}).empty());
    for (const Connected& one : connected_prefixes({})) {
        const std::string beginning = one.interface.substr(0, 1) + "*";
        const auto exactly = connected_prefixes({one.interface}), by_beginning = connected_prefixes({beginning});
        CHECK(std::find(exactly.begin(), exactly.end(), one) != exactly.end());
        CHECK(std::find(by_beginning.begin(), by_beginning.end(), one) != by_beginning.end());
    }
}
