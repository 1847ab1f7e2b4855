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
/// (An object, so that argument-dependent lookup never finds std::quoted instead.)
inline constexpr struct Quoted { std::string operator()(std::string_view) const; } quoted;

}  // namespace smtpfence
