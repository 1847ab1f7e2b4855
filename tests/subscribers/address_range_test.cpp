#include "subscribers/address_range.hpp"

#include <catch2/catch.hpp>

using namespace smtpfence;

namespace {

Ranges ranges_of(const std::vector<std::string>& prefixes) {
    Ranges ranges;
    for (const std::string& prefix : prefixes) ranges.push_back(range_of(Prefix::parse(prefix)));
    return ranges;
}

std::string text(const Ranges& ranges) {
    std::string words;
    for (const Range& range : ranges) each_prefix(range, [&](const Prefix& prefix) { words += prefix.text() + " "; });
    return words;
}

std::vector<Prefix> holes(const std::vector<std::string>& prefixes) {
    std::vector<Prefix> all;
    for (const std::string& prefix : prefixes) all.push_back(Prefix::parse(prefix));
    return all;
}

}  // namespace

TEST_CASE("address_range: what lies outside the holes is left") {
    CHECK(text(without(ranges_of({"100.64.0.0/30", "2001:db8::/62"}),
                       holes({"100.64.0.1", "100.64.0.2", "2001:db8:0:1::/64"}))) ==
          "100.64.0.0/32 100.64.0.3/32 2001:db8::/64 2001:db8:0:2::/63 ");
    CHECK(text(without(ranges_of({"100.64.0.0/30"}), holes({"100.64.0.0/16"}))).empty());
    CHECK(text(without(ranges_of({"100.64.0.0/30"}), holes({"10.0.0.0/8", "2001:db8::/32"}))) == "100.64.0.0/30 ");
}

TEST_CASE("address_range: what two have in common") {
    CHECK(text(common(ranges_of({"100.64.0.0/16", "100.66.0.0/16"}), ranges_of({"100.64.0.7", "100.66.0.0/15"}))) ==
          "100.64.0.7/32 100.66.0.0/16 ");
    CHECK(common(ranges_of({"100.64.0.0/16"}), ranges_of({"2001:db8::/32"})).empty());
}

TEST_CASE("address_range: IPv4 counts addresses, IPv6 /64s") {
    const Ranges ranges = ranges_of({"0.0.0.0/0", "2001:db8::/32"});
    CHECK(size_of(ranges, Family::v4) == 4294967296.0);
    CHECK(size_of(ranges, Family::v6) == 4294967296.0);
    CHECK(size_of(ranges_of({"100.64.0.0/22"}), Family::v4) == 1024.0);
    CHECK(size_of(ranges_of({"2001:db8::/56", "2001:db8:1::/64"}), Family::v6) == 257.0);
}

TEST_CASE("address_range: the same addresses are the same ranges, however they were cut") {
    CHECK(merged(ranges_of({"100.64.0.128/25", "100.64.0.0/25", "100.64.0.3"})) == ranges_of({"100.64.0.0/24"}));
    CHECK(merged(ranges_of({"255.255.255.0/24", "::/0"})).size() == 2);
    CHECK(merged(ranges_of({"0.0.0.0/0", "255.255.255.255"})) == ranges_of({"0.0.0.0/0"}));
}
