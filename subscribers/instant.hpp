#pragma once
// Points in time and durations as people write them: RFC 3339 with a zone, and 30s 5m 12h 365d 2w.
//
//   Instant until = parse_instant("2027-01-01T00:00:00Z");
//   std::string text = format_instant(until);          // "2027-01-01T00:00:00Z"
//   Seconds grace = parse_duration("365d");

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace smtpfence {

using Seconds = std::chrono::seconds;
/// UTC, whole seconds. Stored in the database as INTEGER seconds since 1970.
using Instant = std::chrono::sys_seconds;

/// Parses RFC 3339 (section 5.6) with 'Z' or a numeric offset; a fraction of a second is cut off.
/// A space or 't' instead of 'T' is accepted. Years 1970 to 9999. Throws Refused (invalid); a time without a zone gets
/// a message with its likely readings (UTC and the machine's zone).
Instant parse_instant(std::string_view text);

/// "2027-01-01T00:00:00Z".
std::string format_instant(Instant);

/// A positive integer with one of s m h d w; at most 100 years. Throws Refused (invalid).
Seconds parse_duration(std::string_view text);

/// The shortest exact form that parse_duration reads: 86400 s is "1d", 90 s is "90s". Zero is "0s".
std::string format_duration(Seconds);

inline int64_t to_number(Instant t) { return t.time_since_epoch().count(); }
inline Instant to_instant(int64_t seconds) { return Instant{Seconds{seconds}}; }

/// The system's clock now.
Instant now();

}  // namespace smtpfence
