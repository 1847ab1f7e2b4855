#pragma once
// What the database asks of a router: the whole of it, or what changed since a revision. Values only; rules/ turns them
// into a table.

#include <deque>
#include <optional>
#include <vector>

#include "subscribers/customer.hpp"
#include "subscribers/fenced.hpp"

namespace smtpfence {

/// A prefix whose holder is exempt, and until when: the earlier of the exemption's and the assignment's end.
struct Right {
    Prefix prefix;
    Instant until;
    friend bool operator==(const Right&, const Right&) = default;
};

struct Policy {
    Revision revision = 0;
    std::vector<Prefix> relays;                    ///< sorted
    std::vector<std::pair<Prefix, Action>> pools;  ///< sorted; nested as the operator wrote them
    std::deque<Right> rights;                      ///< sorted by prefix, unique; none that ended before `now`
};

/// Everything, from one consistent view (its own: not within a Reading).
Policy read_policy(Database&, Instant now);
/// All but the rights; not a view of its own.
Policy read_policy_without_rights(Database&);

/// What became different for a follower that holds (`since`, `since_time`).
struct PolicyDelta {
    Revision revision = 0;
    std::optional<std::vector<Prefix>> relays;                    ///< all of them, when any changed
    std::optional<std::vector<std::pair<Prefix, Action>>> pools;  ///< all of them, when any changed
    /// Prefixes whose right may have changed, with what holds now (nullopt: none). Sorted, unique. May name prefixes
    /// without a difference.
    std::vector<std::pair<Prefix, std::optional<Instant>>> rights;
};

/// More touched prefixes than this, and reading everything is cheaper than asking for each.
constexpr size_t delta_limit = 20000;

/// Reads the change log after `since`, and what expired in (since_time, now]; one consistent view of its own. nullopt:
/// the log does not reach back (also: since_time is more than an hour ago, or after `now`), or more than `limit`
/// prefixes were touched, so that read_policy is the better way.
std::optional<PolicyDelta> read_delta(Database&, Revision since, Instant since_time, Instant now, size_t limit);

/// Brings a policy up to what the delta since its revision says.
void bring_up(Policy&, PolicyDelta);

/// What a change has done so far, before its commit. nullopt: as above.
std::optional<PolicyDelta> read_delta(Change&, size_t limit);

/// Until when exactly this prefix is exempt at `now`; nullopt: it is not.
std::optional<Instant> right_of(Database&, const Prefix&, Instant now);
/// The order of Policy::rights.
inline constexpr auto by_prefix = [](const Right& a, const Right& b) { return a.prefix < b.prefix; };
/// All of them, as in Policy; not a view of its own: also within a Reading or a Change.
std::deque<Right> read_rights(Database&, Instant now);

/// The customers whose rights are still to be read: those with ids between these two.
struct CustomersLeft {
    std::string after;
    std::optional<std::string> before;  ///< nullopt: to the last one
    bool mostly_exempt = true;          ///< as far as was read: then walking along is faster than asking for each
};
enum class From { first, last };
/// Appends what the next `customers` that were ever exempt on that side of `left` hold now, in no order, and takes them
/// from `left`. False: nobody is left. Not a view of its own.
bool read_rights(Database&, Instant now, CustomersLeft& left, From, int64_t customers, std::deque<Right>&);

/// When the next right ends by itself after `now`, or a little earlier: it looks at no more than 1,000 assignments.
/// nullopt: none ends.
std::optional<Instant> next_end(Database&, Instant now);

/// Why a prefix is exempt or not, for `plan` and `explain`: "customer c1 exempt until … (ticket T)",
/// "exemption of c1 revoked at revision 12 by alice: no longer needed", "released at revision 13", ... Never empty.
std::string right_cause(Database&, const Prefix&, Instant now);
/// The same for a pool or relay prefix: the last audit entry that touched it, or "never in the database".
std::string object_cause(Database&, Object, const Prefix&);

}  // namespace smtpfence
