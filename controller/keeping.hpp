#pragma once
// Keeps the last good fence on disk while the service runs: what the kernel took is noted at once, and what could not
// be written is tried again. Neither the fence in the kernel nor who follows the database waits for the disk, but in
// finish(): a thread does.
//
//   keeping.note(transaction, now());       // the kernel took it
//   if (keeping.keep(enforcement, now(), t)) report();
//   keeping.flush(t);                       // keeping.descriptor() is readable when the disk has it: keep() again

#include "controller/background.hpp"
#include "controller/enforcement.hpp"
#include "controller/last_good.hpp"
#include "controller/steady.hpp"
#include "controller/trouble.hpp"

namespace smtpfence {

class Keeping {
public:
    /// Throws SnapshotError.
    explicit Keeping(const std::filesystem::path& directory) : directory_(directory), file_(directory) {}

    /// `last` is in force as it was read. Whether the disk has it, a flush tells.
    void resume(const Snapshot& last);
    /// The kernel took it.
    void note(const Transaction&, Instant now);
    /// A pass ended at this revision.
    void note(Revision);

    /// The table was read anew: what was noted until then need not lead to what is in force behind the next pass.
    void doubt() { doubted_ = true; }
    /// The clock was set back: the file shall not tell of a time that is still to come.
    void write_anew();

    /// Brings the file up to what is in force. Whether trouble began or ended.
    bool keep(const Enforcement&, Instant now, Steady::time_point);
    /// Has the disk take what it was only handed, in a thread.
    void flush(Steady::time_point);
    /// Both, until the disk has everything or refuses it. Whether trouble began or ended.
    bool finish(const Enforcement&, Instant now, Steady::time_point);

    /// The newest revision that may be reported where `in_force` is enforced: what was taken from somebody by then is
    /// on disk, so that a reboot doesn't give it back. nullopt: the disk has taken nothing yet since the start. To be
    /// asked behind each pass.
    std::optional<Revision> reportable(Revision in_force);
    const Trouble& trouble() const { return trouble_; }
    /// When keep() has something to do, if not when the descriptor says so.
    Steady::time_point next(Steady::time_point) const;
    /// -1: nobody waits for the disk.
    int descriptor() const { return waits() || (changed_ && publishes()) ? background_.descriptor() : -1; }

private:
    /// How far the file was: what was taken from somebody in so many transactions is in it, and this revision.
    struct Point {
        uint64_t taken = 0;
        Revision revision = 0;
    };
    bool end_flush(Instant now, Steady::time_point);
    bool settle(const Enforcement&, Instant now, Steady::time_point);
    bool set_trouble(const std::string& reason, Instant now);
    bool failed(const SnapshotError&, Instant now, Steady::time_point);
    bool recovered(Instant now);
    bool waits() const { return taken_ != taken_on_disk_ || !file_.published(); }
    bool publishes() const { return flush_ && flush_->publishes(); }

    std::filesystem::path directory_;
    LastGood file_;
    bool doubted_ = false;  ///< the file, until a pass has ended
    bool changed_ = true;   ///< something is in force that is not in the file
    Revision revision_ = -1;
    uint64_t taken_ = 1;  ///< transactions that took something from somebody; one for those before the start
    Point settled_, flushing_;
    uint64_t taken_on_disk_ = 0;
    std::optional<Revision> reportable_;
    std::optional<LastGood::Flush> flush_;  ///< that runs
    Steady::time_point flush_began_{};
    Background background_;
    Trouble trouble_;
    Retry retry_{std::chrono::seconds(1)};
};

}  // namespace smtpfence
