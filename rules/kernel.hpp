#pragma once
// The boundary to the kernel: one of the project's two abstract classes. The real one is NetlinkKernel
// (netlink_kernel.hpp), the other a model for tests (tests/rules/model_kernel.hpp); both pass the same contract tests.

#include <functional>
#include <set>
#include <span>

#include "rules/difference.hpp"

namespace smtpfence {

/// The kernel refused or could not be asked. what() names the object ("element 100.64.7.7 of set exempt4_32"), the
/// reason and the next step.
struct KernelError : std::runtime_error {
    KernelError(int error, std::string refused, const std::string& message)
        : std::runtime_error(message), code(error), object(std::move(refused)) {}
    int code;            ///< errno: EPERM, ENOENT, ENFILE, EOPNOTSUPP, ...
    std::string object;  ///< what it was about; may be empty
};

/// What this kernel can do, found by dry-run batches when it is opened; what needs a set of ours, once there is one.
struct Features {
    bool persist = false;  ///< table flags owner and persist: nobody else can change the table, and it survives our end
    bool destroy_element = false;  ///< deleting what has just expired is no error
    bool ack_on_end = false;       ///< a transaction's end is acknowledged
    /// It tells how many elements a set has, so that a reading needs no dump. nullopt: it was not asked yet.
    std::optional<bool> element_count;
};
/// "owner and persist flags: yes", one line each, for `status`.
std::string text(const Features&);

/// What was changed in our table by somebody else.
struct Touched {
    bool everything = false;  ///< it was not told what
    bool outline = false;     ///< the table, sets, chains, rules, relays, pools or interfaces
    std::map<std::string, std::vector<Key>> exemptions;  ///< elements of exemption sets, by set
    std::set<std::string> remade;                        ///< exemption sets that were made or deleted

    bool nothing() const { return !everything && !outline && exemptions.empty() && remade.empty(); }
    void merge(Touched other) {
        everything = everything || other.everything;
        outline = outline || other.outline;
        remade.merge(other.remade);
        for (auto& [set, keys] : other.exemptions) {
            auto& all = exemptions[set];
            all.insert(all.end(), keys.begin(), keys.end());
        }
    }
};

/// Somebody else's commit, to any table of this network namespace, as far as the kernel tells.
struct ForeignCommit {
    uint32_t generation = 0;  ///< that it made; 0: not told
    uint32_t pid = 0;         ///< by the machine's own count, whatever container it is in; 0: not told
    std::string program;      ///< its name; empty: not told
    Touched touched;
};

/// A source address and its counter in a dynamic set.
struct Counted {
    Key key;
    uint64_t packets = 0;
};

/// How the exemptions that a set holds are compared with expected ones: each is asked for by its key, 1 us, or all pass
/// for the expected ones when there are as many.
enum class Comparison { keys, numbers };

class Kernel {
public:
    virtual ~Kernel() = default;

    virtual Features features() const = 0;

    /// What every `until` is by: the machine's uptime (CLOCK_BOOTTIME) plus this. The kernel itself counts down and
    /// knows no time of day, so that another clock moves no end, only the numbers that are told. Without a call it is
    /// the machine's clock as it was when the kernel was opened, whoever sets it afterwards.
    virtual void set_clock(std::chrono::milliseconds since_start) = 0;

    /// Makes the table ours: creates it, or adopts the one that an earlier process left. Where the kernel has owner
    /// flags, another living owner is KernelError EPERM (what() names it). Needed before commit(); reading needs
    /// nothing.
    virtual void take() = 0;

    /// The table as it is now, consistent (read again while the generation moves). Elements of dynamic sets are left
    /// out. Empty when there is none. Where the kernel counts elements, those that `expected` holds of an exemption set
    /// are compared (by numbers, and where these differ, by keys), and the set is dumped, in quadratic time, only when
    /// it has more than these and what ended lately (Set::ended), of which it asks whether it is gone.
    virtual Fence read(Fence expected, Comparison) = 0;
    Fence read(Fence expected) { return read(std::move(expected), Comparison::keys); }
    Fence read() { return read(Fence()); }

    /// The same without the elements of exemption sets: what closes, at a cost that doesn't grow with the exemptions.
    virtual Fence read_outline() = 0;

    /// How many elements a set has; those that ended by themselves count until it has collected them. nullopt: it is
    /// not told, or there is no such set.
    virtual std::optional<uint32_t> count(const std::string& set) = 0;

    /// What an exemption set holds for each of these keys; nullopt: it isn't there.
    virtual std::vector<std::optional<Held>> held(const std::string& set, std::span<const Key>) = 0;

    /// One atomic transaction: all of it or, with an exception, nothing. With `generation` it is refused (ERESTART)
    /// when anybody has committed to this network namespace since that one. False: all that it deletes had ended, and
    /// nothing was committed.
    virtual bool commit(const Transaction&, std::optional<uint32_t> generation) = 0;
    bool commit(const Transaction& transaction) { return commit(transaction, std::nullopt); }

    /// Increases with every commit by anybody in this network namespace.
    virtual uint32_t generation() = 0;

    /// Whether take() made the table ours alone: nobody else can change it while this process lives.
    virtual bool owned() const = 0;

    /// Listens for other programs' commits, unless the table is owned. It costs whoever commits a copy of each element,
    /// so that a large commit() of ours ends it; what happens until the next call, only the generation tells.
    virtual void listen() = 0;
    /// Readable when there are foreign commits; -1: not listening.
    virtual int listener() const = 0;
    /// Those since the last call, in order. One without generation stands for any number of them.
    virtual std::vector<ForeignCommit> foreign_commits() = 0;

    /// The element that covers `address` (all bits set in its length), asked by key: in an interval set the interval,
    /// else the exact key. Set or element missing: nullopt.
    virtual std::optional<std::pair<Key, Held>> find(const std::string& set, const Key& address) = 0;

    /// The elements of a dynamic set with their counters, in no order. Set missing: empty.
    virtual std::vector<Counted> counted(const std::string& set) = 0;

    /// Packets counted by the action chain's own counter ("consumer_drop"), 0 when missing.
    virtual uint64_t chain_packets(const std::string& chain) = 0;

    /// Deletes the table. None there: false.
    virtual bool remove() = 0;
};

/// The real kernel of this network namespace. Throws KernelError: EPERM without CAP_NET_ADMIN, EOPNOTSUPP without
/// nf_tables.
std::unique_ptr<Kernel> open_kernel();

}  // namespace smtpfence
