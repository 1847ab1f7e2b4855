#pragma once
// The configuration file (TOML): one parse step, every default in one place, unknown keys refused with their path.

#include <stdexcept>
#include <string>

#include "controller/guard.hpp"
#include "rules/fence.hpp"
#include "subscribers/fenced.hpp"

namespace smtpfence {

/// The file can't be used. what() names file, line, key path, reason and next step. Exit code 7, or 5 when `denied`: it
/// may not be read.
struct ConfigurationError : std::runtime_error {
    explicit ConfigurationError(const std::string& message, bool may_not_read = false)
        : std::runtime_error(message), denied(may_not_read) {}
    bool denied;
};

inline constexpr const char* default_configuration = "/etc/smtpfence/config.toml";

/// The file's keys, under the same names.
struct Configuration {
    std::string database;  ///< "" when the file names none (the command line or environment may)
    std::string router;    ///< default: host name
    std::string state_directory = "/var/lib/smtpfence";
    Border border;              ///< [interfaces] subscriber, action
    RelayLimits relay;          ///< [relay] widest4, widest6
    Seconds keep{180 * 86400};  ///< [history] keep
    Seconds poll{5};            ///< [follow] poll
    Seconds verify{60};         ///< [follow] verify
    GuardLimits guard;          ///< [guard] max_release_percent, max_exempt_percent
    Policy boot;                ///< [boot] pools (they drop) and relays, sorted; both or neither
};

/// Reads `path`. A missing file is an error unless `may_be_missing`, then all defaults hold. Throws ConfigurationError.
Configuration read_configuration(const std::string& path, bool may_be_missing);

/// The database's URL: `named`, or else the configuration's. Throws ConfigurationError when that leaves the service
/// without a database that it could open.
const std::string& database_of(const Configuration&, const std::string& named);

}  // namespace smtpfence
