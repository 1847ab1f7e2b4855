#pragma once
// The right to write this router's table: a lock file in the state directory, and one of the network namespace
// (network_lock.hpp). `run` holds both all its life, `apply`, `restore` and `clear` while they write. The kernel's
// owner flag says the same where it exists; this says it everywhere, and before anything is touched.

#include <optional>
#include <string>

#include "controller/network_lock.hpp"

namespace smtpfence {

class RouterLock {
public:
    /// Creates the state directory when missing. Throws Refused (conflict) when another process holds it, naming it;
    /// std::system_error when the directory or file can't be made.
    explicit RouterLock(const std::string& state_directory);
    ~RouterLock();
    RouterLock(const RouterLock&) = delete;
    RouterLock& operator=(const RouterLock&) = delete;

    /// To be called now and then by who holds it for long.
    void turn_away() { network_->turn_away(); }

    /// Whether some process ever did: this machine is a router.
    static bool ever_held(const std::string& state_directory);

private:
    int descriptor_ = -1;
    std::optional<NetworkLock> network_;
};

}  // namespace smtpfence
