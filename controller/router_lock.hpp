#pragma once
// The right to write this router's table: a lock file in the state directory. `run` holds it all its life, `apply` and
// `clear` while they write. The kernel's owner flag says the same where it exists; this says it everywhere, and before
// anything is touched.

#include <string>

namespace smtpfence {

class RouterLock {
public:
    /// Creates the state directory when missing. Throws Refused (conflict) when another process holds it, naming its
    /// pid; std::system_error when the directory or file can't be made.
    explicit RouterLock(const std::string& state_directory);
    ~RouterLock();
    RouterLock(const RouterLock&) = delete;
    RouterLock& operator=(const RouterLock&) = delete;

    /// Whether some process holds it now.
    static bool held(const std::string& state_directory);
    /// Whether some process ever did: this machine is a router.
    static bool ever_held(const std::string& state_directory);

private:
    int descriptor_ = -1;
};

}  // namespace smtpfence
