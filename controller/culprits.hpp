#pragma once
// Who else may have changed the table since the kernel was last verified, for the line about drift: whoever touched it,
// as the kernel tells, and whoever committed while it could not be heard what.

#include <string>
#include <vector>

#include "rules/kernel.hpp"

namespace smtpfence {

class Culprits {
public:
    void hear(const ForeignCommit&);
    /// "nft (process 4711), docker (process 12)", each once; empty: nobody was heard. Forgets them.
    std::string taken();

private:
    struct Culprit {
        uint32_t pid;
        std::string program;
        friend bool operator==(const Culprit&, const Culprit&) = default;
    };
    std::vector<Culprit> heard_;
    bool more_ = false;  ///< than are kept
};

/// Says that `healed` differences were put right, and by whom they may have come. None: says nothing.
void journal_drift(size_t healed, const std::string& culprits);

}  // namespace smtpfence
