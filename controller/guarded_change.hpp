#pragma once
// The guard at the command line: what a command would open is measured before its commit, and refused unless it is
// confirmed. One command is measured alone; what many open within an hour is the routers' matter (guard.hpp).
//
//   Change change(run.database(OpenMode::write), run.actor(), "pool remove");
//   ...
//   judge_openings(run, change, confirmed);
//   change.commit();

#include "controller/commands.hpp"

namespace smtpfence {

/// --confirm. `also`: what else it confirms, for the help text.
void declare_confirm(CLI::App&, bool& confirmed, const std::string& also = "");

/// Throws Refused (conflict), saying what would open, when `change` opens more than the configuration's [guard] lets
/// pass at once. Confirmed, its openings are stored with the revision and pass on every router. Costs what the change
/// touched; the state before it is read by a session of its own, which doesn't see it yet.
void judge_openings(Invocation&, Change&, bool confirmed);

}  // namespace smtpfence
