#include "subscribers/instant.hpp"

#include <fmt/format.h>

#include <charconv>
#include <ctime>

#include "subscribers/error.hpp"

namespace smtpfence {

namespace {

using std::chrono::days;
using std::chrono::hours;
using std::chrono::minutes;

constexpr Instant first_instant{Seconds{0}};
constexpr Instant last_instant{Seconds{253402300799}};  // 9999-12-31T23:59:59Z

/// What is left to read of a time.
struct Cursor {
    std::string_view rest;

    bool take(char c) {
        if (rest.empty() || rest[0] != c) return false;
        rest.remove_prefix(1);
        return true;
    }
    /// Exactly `count` digits.
    std::optional<int> number(size_t count) {
        if (rest.size() < count) return {};
        int value = 0;
        for (char c : rest.substr(0, count)) {
            if (c < '0' || c > '9') return {};
            value = value * 10 + (c - '0');
        }
        rest.remove_prefix(count);
        return value;
    }
};

std::optional<std::chrono::sys_days> parse_date(Cursor& cursor) {
    const auto year = cursor.number(4);
    if (!year || !cursor.take('-')) return {};
    const auto month = cursor.number(2);
    if (!month || !cursor.take('-')) return {};
    const auto day = cursor.number(2);
    if (!day) return {};
    const std::chrono::year_month_day date{std::chrono::year(*year), std::chrono::month(static_cast<unsigned>(*month)),
                                           std::chrono::day(static_cast<unsigned>(*day))};
    if (!date.ok()) return {};
    return std::chrono::sys_days(date);
}

/// hh:mm:ss with an optional fraction; 60 is a leap second.
std::optional<Seconds> parse_clock(Cursor& cursor) {
    const auto hour = cursor.number(2);
    if (!hour || *hour > 23 || !cursor.take(':')) return {};
    const auto minute = cursor.number(2);
    if (!minute || *minute > 59 || !cursor.take(':')) return {};
    const auto second = cursor.number(2);
    if (!second || *second > 60) return {};
    if (cursor.take('.')) {
        if (!cursor.number(1)) return {};
        while (cursor.number(1)) {
        }
    }
    return hours(*hour) + minutes(*minute) + Seconds(*second);
}

std::optional<Seconds> parse_zone(Cursor& cursor) {
    if (cursor.take('Z') || cursor.take('z')) return Seconds{0};
    const bool east = cursor.take('+');
    if (!east && !cursor.take('-')) return {};
    const auto hour = cursor.number(2);
    if (!hour || *hour > 23 || !cursor.take(':')) return {};
    const auto minute = cursor.number(2);
    if (!minute || *minute > 59) return {};
    const Seconds offset = hours(*hour) + minutes(*minute);
    return east ? offset : -offset;
}

[[noreturn]] void refuse_time(std::string_view text, std::string_view why) {
    throw Refused(Refusal::invalid, fmt::format("time {}: {}", quoted(text), why));
}

/// The offset that the machine's zone has at this wall-clock time.
Seconds machine_offset(Instant wall_clock) {
    const std::time_t as_utc = to_number(wall_clock);
    std::tm parts{};
    gmtime_r(&as_utc, &parts);
    parts.tm_isdst = -1;
    const std::time_t local = mktime(&parts);
    return local == -1 ? Seconds{0} : Seconds{as_utc - local};
}

[[noreturn]] void refuse_without_zone(std::string_view text, Instant wall_clock) {
    const std::string utc = format_instant(wall_clock);
    const Seconds offset = machine_offset(wall_clock);
    if (offset == Seconds{0}) refuse_time(text, fmt::format("no zone; write {} if UTC is meant", utc));
    const auto size = std::chrono::abs(offset);
    const std::string local =
        fmt::format("{}{}{:02}:{:02}", utc.substr(0, utc.size() - 1), offset < Seconds{0} ? '-' : '+', size / hours(1),
                    size % hours(1) / minutes(1));
    refuse_time(text, fmt::format("no zone; write {} if UTC is meant, or {} for this machine's zone", utc, local));
}

}  // namespace

Instant parse_instant(std::string_view text) {
    constexpr std::string_view form = "not a time as in RFC 3339; write it like 2027-01-01T00:00:00Z";
    Cursor cursor{text};
    const auto date = parse_date(cursor);
    if (!date) refuse_time(text, form);
    if (cursor.rest.empty()) refuse_without_zone(text, *date);
    if (!cursor.take('T') && !cursor.take('t') && !cursor.take(' ')) refuse_time(text, form);
    const auto clock = parse_clock(cursor);
    if (!clock) refuse_time(text, form);
    if (cursor.rest.empty()) refuse_without_zone(text, *date + *clock);
    const auto offset = parse_zone(cursor);
    if (!offset || !cursor.rest.empty()) refuse_time(text, form);
    const Instant result = *date + *clock - *offset;
    if (result < first_instant || result > last_instant) refuse_time(text, "must lie in the years 1970 to 9999");
    return result;
}

std::string format_instant(Instant t) {
    const auto day = std::chrono::floor<days>(t);
    const std::chrono::year_month_day date(day);
    const std::chrono::hh_mm_ss clock(t - day);
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", static_cast<int>(date.year()),
                       static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()), clock.hours().count(),
                       clock.minutes().count(), clock.seconds().count());
}

namespace {

struct Unit {
    char letter;
    int64_t seconds;
};
/// Longest first.
constexpr Unit units[] = {{'w', 604800}, {'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}};
constexpr int64_t longest_duration = 36525 * int64_t{86400};  // 100 years

}  // namespace

Seconds parse_duration(std::string_view text) {
    const auto refuse_duration = [&](std::string_view why) {
        throw Refused(Refusal::invalid, fmt::format("duration {}: {}", quoted(text), why));
    };
    int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    const std::string_view letter = text.substr(static_cast<size_t>(end - text.data()));
    if (error == std::errc::invalid_argument || letter.size() != 1) {
        refuse_duration("write a number and one of s m h d w, like 12h or 365d");
    }
    for (const Unit& unit : units) {
        if (unit.letter != letter[0]) continue;
        if (error == std::errc::result_out_of_range || number > longest_duration / unit.seconds) {
            refuse_duration("longer than 100 years");
        }
        if (number <= 0) refuse_duration("must be longer than nothing");
        return Seconds{number * unit.seconds};
    }
    refuse_duration("the unit must be one of s m h d w");
    return {};
}

std::string format_duration(Seconds duration) {
    for (const Unit& unit : units) {
        if (duration.count() != 0 && duration.count() % unit.seconds == 0) {
            return fmt::format("{}{}", duration.count() / unit.seconds, unit.letter);
        }
    }
    return "0s";
}

Instant now() { return std::chrono::floor<Seconds>(std::chrono::system_clock::now()); }

}  // namespace smtpfence
