#pragma once
// `smtpfence run`: a poll loop around Enforcement. It wakes for database commits, expiries, signals, requests and its
// own heartbeat; it tells systemd and the journal what it does, and reports into the database. Whatever fails, the
// rules that are in force stay in force.

#include <string>

#include "controller/configuration.hpp"
#include "controller/router_lock.hpp"

namespace smtpfence {

struct ServiceOptions {
    std::string configuration_path;
    bool configuration_may_be_missing = false;
    std::string database;  ///< from the command line or environment; "" for the configuration's
};

/// Runs until SIGTERM or SIGINT; the table stays. Returns the exit code. Throws ConfigurationError, KernelError (no
/// right, no nf_tables, another owner), Refused.
int run_service(const ServiceOptions&);

}  // namespace smtpfence
