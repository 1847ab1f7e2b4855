#pragma once
// Who else changed nftables since the kernel was last verified, for the line about drift. The kernel tells who
// committed, not what: a program that changed only its own tables at the same time is named as well.

#include <string>
#include <vector>

#include "rules/kernel.hpp"

namespace smtpfence {

class Culprits {
public:
    /// Takes what the kernel has to tell.
    void hear(Kernel&);
    /// "nft (process 4711), docker (process 12)", each once; empty: nobody was heard. Forgets them.
    std::string taken(Kernel&);

private:
    std::vector<ForeignCommit> heard_;
    bool more_ = false;  ///< than are kept
};

/// Says that `healed` differences were put right, and by whom they may have come. None: says nothing.
void journal_drift(size_t healed, const std::string& culprits);

}  // namespace smtpfence
