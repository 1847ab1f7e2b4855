#pragma once
// What to do to make one fence another: pure functions from values to values.
//
// Changes are transactions in the order in which they must reach the kernel; each is atomic. Order:
//   1. create what is missing: chains without rules, empty sets but those for exemptions;
//   2. exemptions that ended or end sooner, in the old set too when a larger one takes its place;
//   3. relays, pools and interfaces, all in one transaction: a pool that is split, or a network that becomes a pool
//      together with its relay, is never seen half done, and nothing in it can be full;
//   4. sets for exemptions that are missing, empty; then exemptions that began or end later, in chunks;
//   5. all rules that differ, in one transaction; other chains keep their counters;
//   6. remove leftovers.
// So no right survives its end because a grant or the set for it failed, and no chain looks into an unfilled set.
// An object of our name but of another kind (somebody else's) makes everything be made anew in one transaction.
// Healing takes two differences, of the outlines and then of the whole, so that what closes is back before exemptions.
//
// Where far more of a large exemption set goes than stays, replacement() comes before: a set with what stays takes its
// place.

#include <deque>
#include <variant>

#include "rules/fence.hpp"

namespace smtpfence {

/// How far apart two ends may be and still be the same one, read or written at another moment.
inline constexpr Seconds jitter{2};

/// The elements of a change, sorted. A deque gives its memory back from the front while it is taken apart.
using ElementList = std::deque<std::pair<Key, Held>>;

struct AddSet {
    std::string name;
    SetShape shape;
};
struct AddChain {
    std::string name;
    std::optional<Hook> hook;
};
struct AddElements {
    std::string set;
    ElementList elements;
};
/// Elements that are already gone are no error (they may have expired).
struct DeleteElements {
    std::string set;
    ElementList elements;  ///< what was held, for the report
};
/// The chain's rules become exactly these.
struct ReplaceRules {
    std::string chain;
    std::vector<Rule> rules;
};
struct DeleteChain {
    std::string name;
};
struct DeleteSet {
    std::string name;
    std::deque<Key> ended{};  ///< exemptions that go with it, sorted, for the record: no other set has them
};
using Operation = std::variant<AddSet, AddChain, AddElements, DeleteElements, ReplaceRules, DeleteChain, DeleteSet>;

struct Transaction {
    std::vector<Operation> operations;  ///< in this order; all or none
};

/// How many elements it adds and removes, those of deleted sets included.
size_t elements_in(const Transaction&);

struct Changes {
    std::vector<Transaction> transactions;
    bool empty() const { return transactions.empty(); }
    size_t size() const;  ///< elements, rules, sets and chains added or removed
};

/// Whether nothing has to be done about an element that is held like `have` and asked for like `want`: the same action,
/// and an end that difference() takes for the same.
bool may_stay(const Held& have, const Held& want, Instant now);

/// From `actual` to `desired`. Deadlines within 2 s count as equal, and where the actual one is earlier, within 0.1 %
/// of the time that remains at `now`: no right outlives its end. Elements whose `until` is over at `now` count as gone.
/// `desired` is taken apart on the way: what is moved in and its changes are never held twice.
Changes difference(const Fence& actual, Fence desired, Instant now);

/// Where the kernel ends a right a little early and that may stay so, `applied` takes the end that is asked for: it is
/// what the kernel is held to as the end comes nearer and less may stay.
void adopt_ends(Fence& applied, const Fence& desired, Instant now);

/// Exemption sets whose place new ones take.
struct Replacement {
    Changes changes;                                ///< empty: none is worth it
    std::map<std::string, std::string> successors;  ///< by name
};

/// The first step from `actual` to `desired` for sets of which `least` elements or more end, and twice as many as stay:
/// new sets are filled with what stays, each right by the sooner of its two ends; then one transaction switches the
/// rules to them and deletes the old ones. Everything that ends does so at once, for what it takes to write what stays.
/// Nothing is replaced while the rules are not as they should be, or two sets of one kind are side by side; and no set
/// in which a right goes that a wider one begins around.
Replacement replacement(const Fence& actual, const Fence& desired, Instant now, size_t least);

/// Names the sets of `desired` after their successors, so that difference() goes on from there.
void adopt(const std::map<std::string, std::string>& successors, Fence& desired);

/// Takes out of `desired` what exemption sets should hold, `least` or more, that are empty in `actual` and in nobody's
/// stead: no right of the same or of longer prefixes of the family is there. It may be added behind all of the
/// difference. By set; none while the rules or the exemption sets' shapes are not as they should be.
std::map<std::string, Elements> take_fillings(const Fence& actual, Fence& desired, size_t least);

/// difference() from a policy's delta, touching only what the delta names. nullopt: a set is missing or more than 80 %
/// full, so that compile() must choose.
std::optional<Changes> difference(const Fence& applied, const PolicyDelta&, Instant now);

/// Performs a transaction on the value. Throws KernelError as the kernel would (missing set: ENOENT, full: ENFILE,
/// existing chain and so on); then the value is somewhere in between.
void perform(Fence&, const Transaction&);

/// One line for each thing that a transaction does: "add element exempt4_32 100.64.7.7 until 2027-01-01T00:00:00Z".
struct ChangeLine {
    std::string verb;              ///< add, delete, replace
    std::string object;            ///< element, set, chain, rules
    std::string where;             ///< name of the set or chain
    std::string what;              ///< the element, with action and end; or empty
    std::optional<Prefix> prefix;  ///< of the element, to look up its cause
};
std::vector<ChangeLine> describe(const Fence& actual, const Changes&);

/// The table as `nft -f` accepts and `nft list table` prints it.
std::string nft_text(const Fence&, Instant now);
/// The changes as an `nft -f` script. `actual` is what they start from (to create the table when there is none).
std::string nft_script(const Fence& actual, const Changes&, Instant now);

}  // namespace smtpfence
