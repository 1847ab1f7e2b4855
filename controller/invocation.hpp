#pragma once
// One run of the program: what the global options say, and what commands get at through them. Everything is opened on
// first use, so that a command touches only what it needs.

#include <memory>
#include <optional>
#include <string>

#include "controller/configuration.hpp"
#include "controller/output.hpp"
#include "controller/service.hpp"
#include "subscribers/change.hpp"

namespace smtpfence {

/// The global options as they were written.
struct GlobalOptions {
    std::string configuration;  ///< "": not given
    std::string database;       ///< --database or SMTPFENCE_DATABASE; "": not given
    std::string output = "table";
    std::string color = "auto";
    std::string operator_name;  ///< --operator or SMTPFENCE_OPERATOR; "": not given
    bool quiet = false;
};

class Invocation {
public:
    /// Throws Refused (invalid) for a value that does not parse.
    explicit Invocation(const GlobalOptions&);

    Output& output() { return output_; }
    const Actor& actor() const { return actor_; }

    /// Throws ConfigurationError.
    const Configuration& configuration();
    /// Where the configuration was looked for.
    const std::string& configuration_path() const { return service_.configuration_path; }
    /// The database's URL. Throws ConfigurationError when nothing names one.
    std::string database_url();
    /// The database, opened by the first call, in its mode and with its patience for a lock.
    Database& database(OpenMode mode = OpenMode::read, std::chrono::milliseconds patience = command_patience);

    /// For run_service().
    const ServiceOptions& service() const { return service_; }

private:
    Output output_;
    Actor actor_;
    ServiceOptions service_;
    std::optional<Configuration> configuration_;
    std::unique_ptr<Database> database_;
};

}  // namespace smtpfence
