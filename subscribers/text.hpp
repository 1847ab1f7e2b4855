#pragma once
// Text from outside: whether it may be stored, and how it is shown in a message.

#include <string>
#include <string_view>

namespace smtpfence {

/// Whether all of `text` is UTF-8 (RFC 3629: no surrogates, nothing overlong).
bool is_utf8(std::string_view text);
/// Whether there is a control character (C0, DEL, C1) in it, which may do things to a terminal.
bool has_control(std::string_view text);

/// Foreign text for a message: in single quotes; control characters, quotes and what is no UTF-8 as \xNN; cut off after
/// about 80 bytes.
std::string quoted(std::string_view);
inline std::string quoted(const char* text) { return quoted(std::string_view(text)); }
/// So that a std::string doesn't go to std::quoted() by argument-dependent lookup.
inline std::string quoted(const std::string& text) { return quoted(std::string_view(text)); }

}  // namespace smtpfence
