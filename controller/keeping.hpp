#pragma once
// Keeps the last good fence on disk while the service runs: what the kernel took is noted at once, and what could not
// be written is tried again. The fence in the kernel never waits for the disk.

#include "controller/enforcement.hpp"
#include "controller/last_good.hpp"
#include "controller/steady.hpp"
#include "controller/trouble.hpp"

namespace smtpfence {

class Keeping {
public:
    /// Throws SnapshotError.
    explicit Keeping(const std::filesystem::path& directory) : file_(directory) {}

    /// `last` is in force as it was read.
    void resume(const Snapshot& last);
    /// The kernel took it.
    void note(const Transaction&, Instant now);
    /// A pass ended at this revision.
    void note(Revision);

    /// Brings the file up to what is in force. Whether trouble began or ended.
    bool keep(const Enforcement&, Instant now, Steady::time_point);
    /// Has the disk take what it was only handed. Whether trouble began.
    bool synchronise(Instant now, Steady::time_point);

    /// Something was taken from somebody that a reboot could give back: it is not reported yet.
    bool owes_narrowing() const { return narrowed_; }
    const Trouble& trouble() const { return trouble_; }
    /// When keep() has something to do.
    Steady::time_point next(Steady::time_point) const;

private:
    bool failed(const SnapshotError&, Instant now, Steady::time_point);

    LastGood file_;
    bool changed_ = true;  ///< something is in force that is not in the file
    bool narrowed_ = false;
    Revision revision_ = -1;
    Trouble trouble_;
    Retry retry_{std::chrono::seconds(1)};
};

}  // namespace smtpfence
