#pragma once
// Every command of the program. Each function declares its arguments and options on a subcommand of CLI11 and returns
// what runs it; the table of names, lines and examples is in command_line.cpp. Values are parsed by what runs, before
// anything is written, so that a bad value is 7 and not CLI11's usage error.

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "controller/invocation.hpp"

namespace smtpfence {

/// Returns the exit code.
using Execution = std::function<int(Invocation&)>;

constexpr int exit_not_enforced = 6, exit_plan_has_changes = 10;

// fenced_commands.cpp
Execution relay_add(CLI::App&);
Execution relay_remove(CLI::App&);
Execution relay_list(CLI::App&);
Execution pool_add(CLI::App&);
Execution pool_set(CLI::App&);
Execution pool_remove(CLI::App&);
Execution pool_list(CLI::App&);

// customer_commands.cpp
Execution customer_show(CLI::App&);
Execution customer_list(CLI::App&);

// assignment_commands.cpp
Execution assign_command(CLI::App&);
Execution release_command(CLI::App&);
Execution assignment_list(CLI::App&);

// exemption_commands.cpp
Execution exempt_grant(CLI::App&);
Execution exempt_renew(CLI::App&);
Execution exempt_revoke(CLI::App&);
Execution exempt_show(CLI::App&);
Execution exempt_list(CLI::App&);

// bulk_commands.cpp
Execution import_command(CLI::App&);
Execution export_command(CLI::App&);

// database_commands.cpp
Execution init_command(CLI::App&);
Execution check_command(CLI::App&);
Execution revert_command(CLI::App&);
Execution audit_command(CLI::App&);

// kernel_commands.cpp
Execution plan_command(CLI::App&);
Execution apply_command(CLI::App&);
Execution run_command(CLI::App&);
Execution clear_command(CLI::App&);

// restore_command.cpp
Execution restore_command(CLI::App&);

// router_commands.cpp
Execution status_command(CLI::App&);
Execution router_list(CLI::App&);
Execution router_forget(CLI::App&);
Execution attempts_command(CLI::App&);

// explain_command.cpp
Execution explain_command(CLI::App&);

// probe_command.cpp
Execution probe_command(CLI::App&);

/// What an option was given, "" when it was not. CLI11 writes into it.
using Text = std::string;

/// nullopt for an option that was not given.
inline std::optional<std::string> given(const CLI::Option* option, const Text& text) {
    return option->count() == 0 ? std::nullopt : std::optional(text);
}

/// Throws Refused (invalid) for the first that does not parse. In the order given.
std::vector<Prefix> parse_prefixes(const std::vector<std::string>& texts);

}  // namespace smtpfence
