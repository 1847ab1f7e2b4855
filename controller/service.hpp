#pragma once
// `smtpfence run`: an epoll loop around Enforcement. It wakes for database commits, expiries, signals, requests and its
// own heartbeat; it tells systemd and the journal what it does, and reports into the database. Whatever fails, the
// rules that are in force stay in force.

#include <string>

#include "controller/configuration.hpp"

namespace smtpfence {

struct ServiceOptions {
    std::string configuration_path;
    bool configuration_may_be_missing = false;
    std::string database;  ///< from the command line or environment; "" for the configuration's
};

/// Runs until SIGTERM or SIGINT; the table stays. Returns the exit code. Throws ConfigurationError, KernelError (no
/// right, no nf_tables, another owner), Refused.
int run_service(const ServiceOptions&);

/// Holds the right to write this router's table while it lives: a lock file in the state directory. `run` holds it all
/// its life, `apply` and `clear` while they write.
class RouterLock {
public:
    /// Creates the state directory when missing. Throws Refused (conflict) when another process holds it, naming its
    /// pid.
    explicit RouterLock(const std::string& state_directory);
    ~RouterLock();
    RouterLock(const RouterLock&) = delete;
    RouterLock& operator=(const RouterLock&) = delete;

    /// Whether some process holds it now.
    static bool held(const std::string& state_directory);

private:
    int descriptor_ = -1;
};

}  // namespace smtpfence
