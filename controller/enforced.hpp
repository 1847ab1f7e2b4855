#pragma once
// Writes whose effect on the routers is waited for: assign, release and the exemptions. Declares --wait and --no-wait,
// commits, waits, and prints the answer.

#include "controller/commands.hpp"
#include "controller/waiting.hpp"

namespace smtpfence {

/// --wait D and --no-wait.
struct WaitOptions {
    Text wait;
    bool no_wait = false;
};
/// `by_default`: how long is waited when nothing is said; "" for not at all (then there is no --no-wait either).
std::shared_ptr<WaitOptions> declare_wait(CLI::App&, const char* by_default);
/// nullopt: not at all. Throws Refused (invalid).
std::optional<Seconds> wait_limit(const WaitOptions&);

/// Commits, waits as long as asked for the "prefixes" of `thing` and prints it with "revision" and "routers" filled in;
/// for people `text` and what the routers do. Returns 0, or 6 when somebody was waited for in vain.
int commit_and_answer(Invocation&, Change&, std::optional<Seconds> wait, Json thing, const std::string& text);

/// Texts of the prefixes that a customer holds now.
std::vector<std::string> held_prefixes(Database&, const std::string& customer);

}  // namespace smtpfence
