#include "subscribers/prefix.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "scratch.hpp"
#include "seed.hpp"

using namespace smtpfence;

static std::string parsed_prefix(std::string_view text) {
    std::string result;
    const std::string refused = refusal([&] { result = Prefix::parse(text).text(); });
    return refused == "granted" ? result : refused;
}

TEST_CASE("prefix: canonical text") {
    CHECK(parsed_prefix("100.64.3.7") == "100.64.3.7/32");
    CHECK(parsed_prefix("100.64.0.0/10") == "100.64.0.0/10");
    CHECK(parsed_prefix("0.0.0.0/0") == "0.0.0.0/0");
    CHECK(parsed_prefix("2001:DB8:0:0::1") == "2001:db8::1/128");
    CHECK(parsed_prefix("2001:db8:0:ab00::/56") == "2001:db8:0:ab00::/56");
    CHECK(parsed_prefix("::/0") == "::/0");
    CHECK("100.64.3.7"_p.short_text() == "100.64.3.7");
    CHECK("100.64.3.0/24"_p.short_text() == "100.64.3.0/24");
    CHECK("2001:db8::1"_p.short_text() == "2001:db8::1");
}

TEST_CASE("prefix: what does not parse is refused, with what was meant") {
    CHECK_THAT(parsed_prefix("100.64.3.7/24"), Catch::StartsWith("invalid: ") && Catch::Contains("100.64.3.0/24"));
    CHECK_THAT(parsed_prefix("2001:db8::1/56"), Catch::Contains("did you mean 2001:db8::/56?"));
    CHECK_THAT(parsed_prefix("100.64.3.7/33"), Catch::Contains("from 0 to 32"));
    CHECK_THAT(parsed_prefix("2001:db8::/129"), Catch::Contains("from 0 to 128"));
    CHECK_THAT(parsed_prefix("::ffff:100.64.3.7"), Catch::Contains("IPv4-mapped; write 100.64.3.7"));
    CHECK_THAT(parsed_prefix("::ffff:100.64.3.0/120"), Catch::Contains("write 100.64.3.0/24"));
    CHECK_THAT(parsed_prefix("100.064.3.7"), Catch::Contains("leading zeros"));
    CHECK_THAT(parsed_prefix("fe80::1%eth0"), Catch::Contains("zone"));
    for (const char* text :
         {"", " ", " 100.64.3.7", "100.64.3.7 ", "100.64.3", "100.64.3.256", "100.64.3.7/", "/24", "100.64.3.7/-1",
          "100.64.3.7/+8", "100.64.0.0/010", "100.64.0.0/1 0", "100.64.0.0/24/24", "2001:db8::/4294967296",
          "2001:db8:::", "0x64400307", "1681916679", "relay1", "100.64.3.7-9"}) {
        CAPTURE(text);
        CHECK_THAT(parsed_prefix(text), Catch::StartsWith("invalid: prefix "));
    }
    CHECK_THAT(parsed_prefix(std::string_view("100.64.3.7\0", 11)), Catch::Contains("'100.64.3.7\\x00'"));
    CHECK_THAT(parsed_prefix("\xff\x1b[2J"), Catch::Contains("'\\xff\\x1b[2J'"));
    CHECK(parsed_prefix(std::string(100000, '1')).size() < 300);
}

TEST_CASE("prefix: a dotted quad is what inet_pton(3) takes for one") {
    std::mt19937 dice(printed_seed());
    const auto draw = [&](size_t below) { return dice() % below; };
    size_t good = 0;
    for (int turn = 0; turn < 20'000; ++turn) {
        std::string text = fmt::format("{}.{}.{}.{}", draw(260), draw(260), draw(260), draw(260));
        static constexpr std::string_view letters = "0123456789.+- a\n";
        if (draw(2) == 0) text.insert(draw(text.size() + 1), 1, letters[draw(letters.size())]);
        if (draw(3) == 0) text.erase(draw(text.size()), 1);
        in_addr address{};
        const bool expected = inet_pton(AF_INET, text.c_str(), &address) == 1;
        CAPTURE(text);
        REQUIRE((parsed_prefix(text) == text + "/32") == expected);
        good += expected ? 1 : 0;
    }
    CHECK(good > 5000);
    CHECK(good < 15000);
}

TEST_CASE("prefix: what contains what") {
    CHECK("100.64.0.0/10"_p.contains("100.64.3.7"_p));
    CHECK("100.64.3.7"_p.contains("100.64.3.7"_p));
    CHECK_FALSE("100.64.3.7"_p.contains("100.64.0.0/10"_p));
    CHECK_FALSE("100.64.0.0/24"_p.contains("100.64.1.0/24"_p));
    CHECK_FALSE("::/0"_p.contains("100.64.3.7"_p));
    CHECK("100.64.3.7"_p.overlaps("100.64.0.0/10"_p));
    CHECK("2001:db8:0:ab00::/56"_p.contains("2001:db8:0:abff::1"_p));
    CHECK_FALSE("2001:db8:0:ab00::/57"_p.contains("2001:db8:0:abff::1"_p));
    CHECK("100.64.3.7"_p.widened(10) == "100.64.0.0/10"_p);
    CHECK(Prefix(Family::v4, "100.64.127.255"_p.address(), 17) == "100.64.0.0/17"_p);
    CHECK(Prefix(Family::v4, "100.64.0.0/17"_p.last(), 32) == "100.64.127.255"_p);
    CHECK(Prefix(Family::v6, "2001:db8::/61"_p.last(), 128) == "2001:db8:0:7:ffff:ffff:ffff:ffff"_p);
}

TEST_CASE("prefix: keys have the order of prefixes and lead back to them") {
    std::vector<Prefix> prefixes = {"::/0"_p,          "2001:db8::/32"_p, "255.255.255.255"_p, "100.64.0.0/24"_p,
                                    "100.64.0.0/10"_p, "0.0.0.0/0"_p,     "128.0.0.0/1"_p,     "2001:db8::1"_p};
    std::sort(prefixes.begin(), prefixes.end());
    CHECK(prefixes[0] == "0.0.0.0/0"_p);
    CHECK(prefixes[1] == "100.64.0.0/10"_p);
    CHECK(prefixes[2] == "100.64.0.0/24"_p);
    for (size_t i = 0; i + 1 < prefixes.size(); ++i) CHECK(prefixes[i].first_key() <= prefixes[i + 1].first_key());
    for (const Prefix& prefix : prefixes) {
        CHECK(Prefix::from_key(prefix.first_key(), prefix.length()) == prefix);
        CHECK(prefix.last_key() >= prefix.first_key());
    }
    CHECK("100.64.0.0/24"_p.last_key() == "100.64.0.255"_p.first_key());
}

TEST_CASE("prefix: a key that is none means a corrupt database") {
    using namespace std::string_literals;
    for (const std::string& key : {""s, "\x04"s,
                                   "\x04"
                                   "abc"s,
                                   "\x05"
                                   "abcd"s,
                                   "\x06"
                                   "abcd"s,
                                   "\x04"
                                   "abcde"s}) {
        CHECK_THAT(failure([&] { Prefix::from_key(key, 8); }), Catch::StartsWith("corrupt: "));
    }
    CHECK_THAT(failure([&] { Prefix::from_key("100.64.0.0/24"_p.first_key(), 33); }), Catch::StartsWith("corrupt: "));
    CHECK_THAT(failure([&] { Prefix::from_key("100.64.3.7"_p.first_key(), 24); }), Catch::Contains("host bits"));
}
