#pragma once
// What a fuzz target says about its input: a property that must hold, or the process ends with the input saved.
//
//   if (const auto prefix = accepted([&] { return Prefix::parse(text); }))
//       must("text parses back", Prefix::parse(prefix->text()) == *prefix);

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "subscribers/error.hpp"

namespace smtpfence {

/// Ends the process when the property does not hold.
inline void must(const char* property, bool holds) {
    if (holds) return;
    std::fprintf(stderr, "property broken: %s\n", property);
    std::abort();
}

/// What `parse` returned; nullopt: it refused the input as invalid, with a message of one printable line.
template <typename Parse>
auto accepted(Parse parse) -> std::optional<decltype(parse())> {
    try {
        return parse();
    } catch (const Refused& refused) {
        const std::string_view message = refused.what();
        must("only values are wrong", refused.reason == Refusal::invalid);
        must("a refusal says why", !message.empty());
        must("a message is UTF-8 without control characters", is_utf8(message) && !has_control(message));
        return std::nullopt;
    }
}

/// Runs one input; each target defines it.
void fuzz(std::string_view input);

}  // namespace smtpfence
