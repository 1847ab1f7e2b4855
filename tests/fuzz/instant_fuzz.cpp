// Times and durations as people write them.

#include "subscribers/instant.hpp"

#include "property.hpp"

void smtpfence::fuzz(std::string_view input) {
    if (const auto time = accepted([&] { return parse_instant(input); })) {
        must("it lies in the years 1970 to 9999", to_number(*time) >= 0 && to_number(*time) < 253402300800);
        must("the text has one length", format_instant(*time).size() == 20);
        must("the text parses back", parse_instant(format_instant(*time)) == *time);
    }
    if (const auto duration = accepted([&] { return parse_duration(input); })) {
        must("a duration is positive and bounded", duration->count() > 0 && *duration <= std::chrono::days{36600});
        must("its shortest text parses back", parse_duration(format_duration(*duration)) == *duration);
    }
}
