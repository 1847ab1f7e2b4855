#pragma once
// Input that may stall for as long as its producer likes (a pipe), kept in a file until it has ended, so that nobody
// waits for the producer while the database is locked.

#include <cstdint>
#include <functional>
#include <string>

namespace smtpfence {

/// Reads `from` to its end and returns a descriptor of the same bytes, at their beginning, which the caller closes.
/// They are in a file without a name in $TMPDIR, else in /var/tmp, which ends with its descriptor. `name` stands for
/// the input in messages; `progress` (may be empty) is called now and then with the bytes read so far. Throws
/// std::runtime_error when the input can't be read, or the folder has no room for it.
int spooled(int from, const std::string& name, const std::function<void(int64_t bytes)>& progress);

}  // namespace smtpfence
