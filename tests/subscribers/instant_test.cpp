#include "subscribers/instant.hpp"

#include <ctime>

#include "scratch.hpp"

using namespace smtpfence;

static std::string parsed_instant(std::string_view text) {
    std::string result;
    const std::string refused = refusal([&] { result = format_instant(parse_instant(text)); });
    return refused == "granted" ? result : refused;
}

/// The machine's zone for the length of a scope.
class Zone {
public:
    explicit Zone(const char* name) {
        if (const char* old = std::getenv("TZ")) old_ = old;
        setenv("TZ", name, 1);
        tzset();
    }
    ~Zone() {
        old_ ? setenv("TZ", old_->c_str(), 1) : unsetenv("TZ");
        tzset();
    }

private:
    std::optional<std::string> old_;
};

TEST_CASE("instant: RFC 3339 is read and written") {
    CHECK(parsed_instant("2027-01-01T00:00:00Z") == "2027-01-01T00:00:00Z");
    CHECK(parsed_instant("2027-01-01 00:00:00z") == "2027-01-01T00:00:00Z");
    CHECK(parsed_instant("2027-01-01t02:30:00.999+02:30") == "2027-01-01T00:00:00Z");
    CHECK(parsed_instant("2026-12-31T22:00:00-02:00") == "2027-01-01T00:00:00Z");
    CHECK(parsed_instant("2028-02-29T12:34:56Z") == "2028-02-29T12:34:56Z");
    CHECK(parsed_instant("2016-12-31T23:59:60Z") == "2017-01-01T00:00:00Z");  // a leap second
    CHECK(parsed_instant("1970-01-01T00:00:00Z") == "1970-01-01T00:00:00Z");
    CHECK(parsed_instant("9999-12-31T23:59:59Z") == "9999-12-31T23:59:59Z");
    CHECK(to_number(parse_instant("2027-01-01T00:00:00Z")) == 1798761600);
    CHECK(to_instant(1798761600) == parse_instant("2027-01-01T00:00:00Z"));
}

TEST_CASE("instant: what is no time is refused") {
    for (const char* text : {"",
                             "now",
                             "2027",
                             "2027-1-1T00:00:00Z",
                             "2027-13-01T00:00:00Z",
                             "2027-02-29T00:00:00Z",
                             "2027-01-01T24:00:00Z",
                             "2027-01-01T00:60:00Z",
                             "2027-01-01T00:00:61Z",
                             "2027-01-01T00:00Z",
                             "2027-01-01T00:00:00.Z",
                             "2027-01-01T00:00:00+2:00",
                             "2027-01-01T00:00:00+0200",
                             "2027-01-01T00:00:00+24:00",
                             "2027-01-01T00:00:00Z ",
                             " 2027-01-01T00:00:00Z",
                             "2027-01-01T00:00:00ZZ",
                             "1969-12-31T23:59:59Z",
                             "1970-01-01T00:00:00+01:00",
                             "9999-12-31T23:59:59-01:00",
                             "20270-01-01T00:00:00Z"}) {
        CAPTURE(text);
        CHECK_THAT(parsed_instant(text), Catch::StartsWith("invalid: time "));
    }
}

TEST_CASE("instant: a time without a zone is refused with its likely readings") {
    {
        const Zone zone("Europe/Berlin");
        CHECK_THAT(parsed_instant("2027-01-01T00:00:00"),
                   Catch::Contains("2027-01-01T00:00:00Z if UTC is meant") &&
                       Catch::Contains("2027-01-01T00:00:00+01:00 for this machine"));
        CHECK_THAT(parsed_instant("2027-07-01 12:00:00"), Catch::Contains("2027-07-01T12:00:00+02:00"));
        CHECK_THAT(parsed_instant("2027-07-01"),
                   Catch::Contains("2027-07-01T00:00:00Z") && Catch::Contains("2027-07-01T00:00:00+02:00"));
    }
    {
        const Zone zone("<-0330>3:30");
        CHECK_THAT(parsed_instant("2027-01-01T00:00:00"), Catch::Contains("2027-01-01T00:00:00-03:30"));
    }
    const Zone zone("UTC");
    CHECK_THAT(parsed_instant("2027-01-01T00:00:00"),
               Catch::EndsWith("no zone; write 2027-01-01T00:00:00Z if UTC is meant"));
}

TEST_CASE("instant: durations") {
    CHECK(parse_duration("30s") == Seconds(30));
    CHECK(parse_duration("5m") == Seconds(300));
    CHECK(parse_duration("12h") == Seconds(43200));
    CHECK(parse_duration("365d") == Seconds(31536000));
    CHECK(parse_duration("2w") == Seconds(1209600));
    CHECK(parse_duration("36525d").count() == 3155760000);
    for (const char* text : {"", "5", "d", "0s", "-5d", "5 d", "5y", "1h30m", "1.5h", "5D", "+5d", "36526d",
                             "9223372036854775808s", "9223372036854775807w", "0x5d", " 5d", "5d "}) {
        CAPTURE(text);
        CHECK_THAT(refusal([&] { parse_duration(text); }), Catch::StartsWith("invalid: duration "));
    }
    CHECK(format_duration(Seconds(0)) == "0s");
    CHECK(format_duration(Seconds(90)) == "90s");
    CHECK(format_duration(Seconds(86400)) == "1d");
    CHECK(format_duration(Seconds(31536000)) == "365d");
    for (const char* text : {"1w", "1d", "3h", "59m", "61s"}) CHECK(format_duration(parse_duration(text)) == text);
}
