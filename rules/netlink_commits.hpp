#pragma once
// Foreign commits, put together from the messages in which nf_tables tells of them: one for each object or element, and
// a last one for the commit, which names its number and who made it.

#include <string_view>
#include <vector>

#include "rules/kernel.hpp"

namespace smtpfence {

class CommitReader {
public:
    /// Whole messages, aligned as netlink aligns them.
    void read(std::string_view datagram);
    /// Messages were lost, perhaps several commits of them.
    void lost();
    /// The commits that were told to their end since the last call.
    std::vector<ForeignCommit> taken();

private:
    Touched touched_;  ///< by the commit that is being told
    std::vector<ForeignCommit> commits_;
};

}  // namespace smtpfence
