#pragma once
// Why SQLite refused, so that it can be said in words: what kind of failure it is, who is in the way, what to do.

#include <string>

#include "subscribers/error.hpp"

namespace smtpfence {

/// `result`: SQLite's code, plain or extended; `system_error`: the errno below it, 0 when there is none.
DatabaseError::Kind kind_of(int result, int system_error);

/// What to do about it; `path` is the database's.
std::string advice(DatabaseError::Kind, const std::string& path);

/// " by process 12 (smtpfence)" for who keeps others out, or "". SQLite's write lock is a POSIX lock on byte 120 of the
/// -shm file; who wants the file for himself locks the file. (Asking with F_GETLK would need a descriptor of it, and
/// closing that drops our own locks.) `path` is the file's own, resolved().
std::string lock_holder(const std::string& path);

}  // namespace smtpfence
