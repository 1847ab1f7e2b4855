#include "subscribers/text.hpp"

#include <fmt/format.h>

#include <cstdint>

namespace smtpfence {

namespace {

/// Bytes of the well-formed UTF-8 character at the beginning of `text`; 0: there is none.
size_t character_length(std::string_view text) {
    if (text.empty()) return 0;
    const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
    const uint8_t lead = byte(0);
    if (lead < 0x80) return 1;
    const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return 0;
    for (size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xc0) != 0x80) return 0;
    }
    if (lead == 0xe0 && byte(1) < 0xa0) return 0;  // overlong
    if (lead == 0xed && byte(1) > 0x9f) return 0;  // surrogates
    if (lead == 0xf0 && byte(1) < 0x90) return 0;  // overlong
    if (lead == 0xf4 && byte(1) > 0x8f) return 0;  // beyond U+10FFFF
    return length;
}

/// Control characters (C0, DEL, C1) do things to a terminal.
bool is_control(std::string_view character) {
    const auto lead = static_cast<uint8_t>(character[0]);
    return lead < 0x20 || lead == 0x7f || (lead == 0xc2 && static_cast<uint8_t>(character[1]) < 0xa0);
}

}  // namespace

std::string Quoted::operator()(std::string_view text) const {
    constexpr size_t longest = 80;
    std::string result = "'";
    while (!text.empty() && result.size() <= longest) {
        const size_t length = character_length(text);
        const std::string_view character = text.substr(0, length == 0 ? 1 : length);
        if (length == 0 || is_control(character) || character == "'") {
            for (char c : character) result += fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
        } else {
            result += character;
        }
        text.remove_prefix(character.size());
    }
    return result + (text.empty() ? "'" : "...'");
}

bool has_control(std::string_view text) {
    while (!text.empty()) {
        const size_t length = character_length(text);
        if (length != 0 && is_control(text)) return true;
        text.remove_prefix(length == 0 ? 1 : length);
    }
    return false;
}

bool is_utf8(std::string_view text) {
    while (!text.empty()) {
        const size_t length = character_length(text);
        if (length == 0) return false;
        text.remove_prefix(length);
    }
    return true;
}

}  // namespace smtpfence
