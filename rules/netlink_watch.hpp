#pragma once
// A second netlink socket that hears of other programs' commits: who made them, and what they touched of our table. Our
// own commits don't reach it.
//
// A listener makes the kernel build a message for each element that anybody commits, read or not (a million: 12 s
// instead of 0.5 s). So it listens only while nothing large is being written. What is more than its buffer holds is
// lost, and the commit counts as having touched everything.

#include <cstdint>
#include <vector>

#include "rules/netlink_commits.hpp"

namespace smtpfence {

class NetlinkWatch {
public:
    NetlinkWatch() = default;
    ~NetlinkWatch();
    NetlinkWatch(const NetlinkWatch&) = delete;
    NetlinkWatch& operator=(const NetlinkWatch&) = delete;

    /// Hears of every commit from now on but those of the socket `own_port`. Throws KernelError.
    void join(uint32_t own_port);
    void leave();
    /// Readable when there is news; -1 while it doesn't listen.
    int descriptor() const { return joined_ ? descriptor_ : -1; }
    /// As Kernel::foreign_commits().
    std::vector<ForeignCommit> commits();

private:
    void open(uint32_t own_port);

    int descriptor_ = -1;
    bool joined_ = false;
    CommitReader reader_;
};

}  // namespace smtpfence
