#pragma once
// Keeps one kernel equal to what one database asks: the pass that `plan`, `apply` and `run` share. It knows no clock of
// its own, no log and no files; the service around it (service.hpp) decides when.
//
//   Enforcement enforcement(kernel, border);
//   enforcement.take();                                   // adopt or create the table, read what is there
//   Pass pass = enforcement.follow(database, now());      // whatever changed since
//
// Threads: none that outlives a call. Performance: follow() costs what changed; verify() is one system call while
// nobody else commits, and costs what somebody else changed when he does; sweep() 1 us for each exemption that it looks
// at.

#include <functional>
#include <optional>

#include "controller/culprits.hpp"
#include "controller/guard.hpp"
#include "controller/policy_reading.hpp"
#include "rules/kernel.hpp"

namespace smtpfence {

/// What was in force when somebody last knew: what openings are measured against. Not what the kernel holds, which
/// somebody may have flushed.
struct InForce {
    Fence fence;
    Revision revision = 0;  ///< what was confirmed later counts as confirmed
    std::string mark;       ///< Enforcement::mark() at that revision; "": not known
};

/// Whether it judges packets. Rules are written last, so that it has all that they look into.
bool in_force(const Fence&);

/// Throws Refused (conflict) when `policy` fences (a pool or `border` drops or rejects) but has no relay: all mail
/// would stop.
void require_relay(const Policy&, const Border&);

/// What applying would do, and to what. Values only.
struct Plan {
    Revision revision = 0;
    Fence actual, desired;
    Changes changes;
    std::optional<Withheld> withheld;  ///< not among the changes
};

/// Reads database and kernel, writes nothing. `last`: nullopt on a router that never had a fence, where nothing is
/// withheld.
Plan make_plan(Database&, Kernel&, const Border&, const std::optional<InForce>& last, Guard, Instant now);

/// What a pass did.
struct Pass {
    Revision revision = 0;  ///< enforced now
    size_t changes = 0;     ///< elements, rules, sets and chains written to the kernel
    size_t transactions = 0;
    bool full = false;  ///< everything was compared, not only what changed
};

class Enforcement {
public:
    Enforcement(Kernel& kernel, Border border, Guard guard = Guard({}))
        : kernel_(kernel), border_(std::move(border)), guard_(std::move(guard)) {}

    /// Is called with each transaction that the kernel took, when applied() has it; while an empty set is filled, from
    /// another thread, when the kernel is at the next one, and applied() has what was added only at the end.
    void on_commit(std::function<void(const Transaction&)> note) { note_ = std::move(note); }
    /// Is called when the table was read anew: what was noted before need not add up to applied().
    void on_take(std::function<void()> note) { note_take_ = std::move(note); }

    /// What the guard measures the first follow() against; without it that one is not guarded.
    void measure_against(InForce last) { last_ = std::move(last); }

    /// Puts a fence into a kernel that holds none. Returns the number of changes. Throws KernelError; then what closes
    /// is in force if the kernel takes that, without the exemptions that it didn't take.
    size_t restore(Fence, Instant now);

    /// Behind take(), in a fence of this program's layout: rules are as they should be again, and relays, pools or
    /// interfaces of which none is left are those of `last`. Returns the number of changes.
    size_t mend(const Fence& last, Instant now);

    Guard& guard() { return guard_; }
    const Guard& guard() const { return guard_; }

    /// Another configuration: the next follow() compares everything.
    void set_border(Border border);

    /// How many exemptions of one set end at once before a pass makes a new set of what stays; see replacement().
    void replace_sets_from(size_t least) { replaced_from_ = least; }

    /// The next follow() compares everything, not only what the change log names.
    void compare_all() { compare_all_ = true; }

    /// Adopts or creates the table and reads it; `expected` is what it probably holds (Kernel::read). What is compared
    /// by numbers alone is swept through from then on. Throws KernelError.
    void take(Fence expected = {}, Comparison = Comparison::keys);
    /// The same by numbers alone, and the guard measures the first follow() against `last`. False: the kernel holds
    /// something else, so that `last` is no longer known; it has to be told again, by measure_against().
    bool take(InForce last);

    /// What take() compared by numbers alone is asked for one by one before the first follow() writes, as far as it
    /// stays: what goes in any case is only counted, afterwards.
    void ask_before_writing() { asks_first_ = sweep_.has_value(); }

    /// Goes on where an earlier process ended, after take(): the next follow() asks the change log for what came since
    /// `last`, as far as it leads there, and compares everything only when compare_all() is called. False: what is in
    /// the kernel is not `last`, or not what the border and this program's rules ask of it.
    bool resume(const InForce& last, Instant now);

    /// Brings the kernel to the database's revision, but for what the guard withholds (guard().withheld()). When
    /// everything is compared, `reading` (may be null) is waited for and used instead of reading it all again. Throws
    /// Refused (no relay) when everything but relays and pools, which stay as they are in force, was brought there: a
    /// revocation doesn't wait for a relay. Throws DatabaseError, KernelError; then what was committed so far stays,
    /// and the next call compares everything.
    Pass follow(Database&, Instant now, PolicyReading* reading = nullptr);

    /// Ends rights that are over at `now` without asking the database (it may be gone). Returns the number of elements
    /// ended.
    size_t expire(Instant now);

    /// Puts right what somebody else changed, as far as the kernel tells: chains, relays, pools and rules first,
    /// exemptions behind them. `thorough`: compares these in any case, and lets a sweep through the exemptions begin.
    /// Returns the number of differences healed. Throws KernelError.
    size_t verify(Instant now, bool thorough);

    /// Compares the next exemptions, `most` of them, with what the kernel holds, and puts right what differs. Returns
    /// the number of differences healed. Throws KernelError; then the sweep goes on where it was.
    size_t sweep(Instant now, size_t most);
    bool sweeping() const { return sweep_.has_value(); }

    /// Who may have changed the table since the last call, in words; empty: nobody was heard.
    std::string culprits() { return culprits_.taken(); }

    /// Somebody set the clock: ends what is over by the new one, and lets the kernel count down to the ends that hold
    /// by it. The next follow() compares everything. Returns the number of changes. Throws KernelError.
    size_t clock_stepped(Instant now);

    /// Passes read the change log from the time of the last one on. An empty one, now and then, keeps that short.
    bool wants_pass(Instant now) const;

    /// Revision that the kernel enforces; nullopt before the first pass that ended well.
    std::optional<Revision> revision() const { return revision_; }
    /// Digest of what tells this revision from one of the same number in another history.
    const std::string& mark() const { return mark_; }
    const Fence& applied() const { return applied_; }
    /// A fence is in force: one that was brought up to a revision, or one that was found.
    bool fenced() const;
    /// The earliest end among the applied rights.
    std::optional<Instant> next_end() const;

private:
    bool harmless(Database&, const PolicyDelta&, Instant now);
    void hold_back(Database&, Fence& desired, Instant now);
    /// `noted`: as news, for on_commit(); what puts right what was noted before is none.
    Pass commit(Changes, bool noted = true);  ///< each transaction is let go once it is committed
    Pass follow_once(Database&, Instant now, PolicyReading*);
    Pass replace_sets(Fence& desired, Instant now);
    Pass bring_to(Fence desired, Instant now, bool noted = true);
    void fill(const std::string& set, Elements, Instant now, bool noted, Pass&);
    Policy whole_policy(Database&, Instant now, PolicyReading*) const;
    void send(const Transaction&);
    void note(const Transaction&, bool noted);
    void account_for(uint32_t before);
    Touched hear();
    size_t put_right(const Touched&, Instant now);
    size_t heal_outline(const std::set<std::string>& remade, Instant now);
    size_t fill_again(const Fence& expected, const std::set<std::string>& names, Instant now);
    /// What the sweep comes to next. No keys: it is through with the set.
    struct Portion {
        std::string set;
        std::vector<Key> keys;
    };
    std::optional<Portion> next_portion(size_t most) const;
    void swept(const Portion&);
    void ask(const Fence& desired, Instant now);
    size_t heal_surplus(Instant now);
    size_t heal_exemptions(const std::string& set, std::span<const Key>, Instant now);
    size_t heal_by_reading(Instant now);
    bool in_surplus(const std::string& set, Instant now);
    void note_dead();
    void refresh_next_end();
    void note_revision(Database&, Revision, Instant now);
    Policy overview(const PolicyDelta&) const;  ///< relays and pools as they will be, for require_relay

    Kernel& kernel_;
    Border border_;
    Guard guard_;
    std::function<void(const Transaction&)> note_;
    std::function<void()> note_take_;
    std::optional<FencedSpace> space_;  ///< of applied_, when it is known
    std::optional<InForce> last_;       ///< until the first pass that ended well
    Fence applied_;                     ///< what the kernel holds, as far as we wrote or read it
    std::optional<Revision> revision_;
    std::string mark_;          ///< mark_of() revision_
    Instant seen_{};            ///< the `now` of the last pass that ended well
    Instant next_end_ = never;  ///< not later than the earliest end in applied_
    uint32_t generation_ = 0;   ///< up to which applied_ knows what was committed
    Touched touched_;           ///< by others, and not put right yet
    Culprits culprits_;
    struct Position {
        std::string set;
        std::optional<Key> behind;
    };
    std::optional<Position> sweep_;       ///< where it goes on
    std::map<std::string, size_t> dead_;  ///< what sets count and a dump did not show: it ended, nobody knows when
    size_t replaced_from_ = 100'000;
    bool compare_all_ = true;
    bool asks_first_ = false;  ///< the sweep ends before anything is written, and corrects applied_ instead
};

}  // namespace smtpfence
