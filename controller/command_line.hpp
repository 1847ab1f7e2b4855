#pragma once
// From words to a command: declares the table of commands (commands.hpp) to CLI11, parses, runs the one that was asked
// for, and turns what it throws into one line on standard error and an exit code.

namespace smtpfence {

/// Runs the program. Returns its exit code (product.md): 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5
/// permission denied, 6 not enforced in time, 7 a value that does not parse, 10 `plan` found changes.
int run_command_line(int argc, const char* const* argv);

}  // namespace smtpfence
