#include "controller/culprits.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "controller/journal.hpp"

namespace smtpfence {

namespace {

constexpr size_t most_named = 8;

}  // namespace

void Culprits::hear(Kernel& kernel) {
    for (ForeignCommit& commit : kernel.foreign_commits()) {
        if (commit == ForeignCommit{} || std::find(heard_.begin(), heard_.end(), commit) != heard_.end()) continue;
        if (heard_.size() < most_named) {
            heard_.push_back(std::move(commit));
        } else {
            more_ = true;
        }
    }
}

std::string Culprits::taken(Kernel& kernel) {
    hear(kernel);
    std::string words;
    for (const ForeignCommit& commit : heard_) {
        if (!words.empty()) words += ", ";
        words += fmt::format("{} (process {})", commit.program.empty() ? "a program" : commit.program, commit.pid);
    }
    if (more_) words += " and others";
    heard_.clear();
    more_ = false;
    return words;
}

void journal_drift(size_t healed, const std::string& culprits) {
    if (healed == 0) return;
    journal(Level::warning,
            fmt::format("drift: {} difference{} in the kernel that {} not ours {} put right{}", healed,
                        healed == 1 ? "" : "s", healed == 1 ? "is" : "are", healed == 1 ? "was" : "were",
                        culprits.empty() ? "" : "; nftables was changed by " + culprits),
            {{"DRIFT", std::to_string(healed)}, {"DRIFT_BY", culprits}});
}

}  // namespace smtpfence
