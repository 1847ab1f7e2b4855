#include "controller/culprits.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "controller/journal.hpp"

namespace smtpfence {

namespace {

constexpr size_t most_named = 8;

}  // namespace

void Culprits::hear(const ForeignCommit& commit) {
    if (commit.touched.nothing() || (commit.pid == 0 && commit.program.empty())) return;
    Culprit culprit{commit.pid, commit.program};
    if (std::find(heard_.begin(), heard_.end(), culprit) != heard_.end()) return;
    if (heard_.size() < most_named) {
        heard_.push_back(std::move(culprit));
    } else {
        more_ = true;
    }
}

std::string Culprits::taken() {
    std::string words;
    for (const Culprit& culprit : heard_) {
        if (!words.empty()) words += ", ";
        words += fmt::format("{} (process {})", culprit.program.empty() ? "a program" : culprit.program, culprit.pid);
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
