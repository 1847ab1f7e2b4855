#include "controller/invocation.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <iostream>

#include "controller/actor.hpp"

namespace smtpfence {

namespace {

std::optional<std::string> unless_empty(const std::string& text) {
    return text.empty() ? std::nullopt : std::optional(text);
}

}  // namespace

Invocation::Invocation(const GlobalOptions& global)
    : output_(std::cout, std::cerr, parse_style(global.output), use_color(global.color, isatty(STDOUT_FILENO) == 1),
              global.quiet),
      actor_(current_actor(unless_empty(global.operator_name))),
      service_{global.configuration.empty() ? default_configuration : global.configuration,
               global.configuration.empty(), global.database} {}

const Configuration& Invocation::configuration() {
    if (!configuration_) {
        configuration_ = read_configuration(service_.configuration_path, service_.configuration_may_be_missing);
    }
    return *configuration_;
}

std::string Invocation::database_url() {
    // A file that was named is meant: a database that is given beside it is no way round one that can't be used.
    if (!service_.configuration_may_be_missing) configuration();
    if (!service_.database.empty()) return service_.database;
    if (!configuration().database.empty()) return configuration().database;
    throw ConfigurationError(fmt::format(
        "no database is named: give --database, set SMTPFENCE_DATABASE, or write database = \"sqlite:…\" in {}",
        service_.configuration_path));
}

Database& Invocation::database(OpenMode mode, std::chrono::milliseconds patience) {
    if (!database_) database_ = open_database(database_url(), mode, patience);
    return *database_;
}

}  // namespace smtpfence
