#pragma once
// Who runs the program, for the audit trail: the account that logged in, not the one it became by sudo or su.

#include <optional>
#include <string>

#include "subscribers/change.hpp"

namespace smtpfence {

/// The login of this process: the kernel's audit login id (/proc/self/loginuid, unchanged by sudo and su); where none
/// is set, root believes SUDO_USER; else the real user id. A user id without a name is "uid 1000".
std::string current_login();

/// This machine's name as gethostname() gives it.
std::string host_name();

/// `operator_name` is what --operator states, nullopt when nothing is stated. Throws Refused (invalid) when it is no
/// text that can be stored.
Actor current_actor(const std::optional<std::string>& operator_name);

}  // namespace smtpfence
