#pragma once
// Customers, the prefixes they hold (assignments), and their opt-outs (exemptions).
// Functions that take a Change write within it; repeating what already holds records nothing.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "subscribers/change.hpp"

namespace smtpfence {

/// 1 to 255 bytes of UTF-8 without control characters or outer spaces. Throws Refused (invalid), quoting the id safely.
void check_customer_id(std::string_view);
/// Other text that is stored (reason, ticket, note, name): UTF-8 without control characters, at most 1,000 bytes, not
/// blank. `what` names the field in the message. Throws Refused (invalid).
void check_text(std::string_view what, std::string_view);

bool customer_exists(Database&, std::string_view customer);
/// Makes the customer at his first mention, with an audit entry. False: known already. The id must have passed
/// check_customer_id.
bool mention_customer(Change&, const std::string& customer);
/// Throws Refused (not_found), with ids that look like it.
void require_customer(Database&, std::string_view customer);
/// The known ids that look like `customer`, as the end of a message: "did you mean 'c1', 'c12'?", or where ids are
/// shown.
std::string nearest_customers(Database&, std::string_view customer);
/// Up to three known ids that look like `customer` (same beginning or one slip away), for warnings.
std::vector<std::string> similar_customers(Database&, std::string_view customer);

/// A prefix that a customer holds now, or held from `since` to `ended`.
struct Assignment {
    Prefix prefix;
    std::string customer;
    Instant since;
    std::optional<Instant> until;  ///< the right ends by itself then
    std::string source;
    std::optional<Instant> ended;                                   ///< set only in history
    bool holds(Instant at) const { return !until || at < *until; }  ///< not over; says nothing of `since`
    friend bool operator==(const Assignment&, const Assignment&) = default;
};

struct Assigned {
    bool added = false;             ///< false: it already held exactly so
    bool changed = false;           ///< `until` moved, and the source with it
    std::vector<Assignment> taken;  ///< ended for others because of `take`
};

/// `until` in the past, length 0: Refused (invalid). Held by another customer, wholly or in part: conflict, names the
/// holder and
/// `--take`; with `take`, equal or narrower assignments of others are ended and returned, a wider one is a conflict.
/// The same customer and prefix with another `until`: updates it (absent `until`: leaves it as it is).
Assigned assign(Change&, std::string_view customer, const Prefix&, std::optional<Instant> until, bool take);
/// Ends the assignment of exactly this prefix. Nobody holds it: nullopt (no error).
std::optional<Assignment> release(Change&, const Prefix&);

/// Every assignment that holds at `at` (default: the database's rows now), in prefix order, streamed.
void each_assignment(Database&, const std::optional<std::string>& customer, Instant at,
                     const std::function<void(const Assignment&)>&);
/// The assignment whose prefix contains all of `address` at `at`: the longest; looks into history for the past.
std::optional<Assignment> holder(Database&, const Prefix& address, Instant at);
/// Assignments inside `prefix` (equal or narrower), at most `limit`, in prefix order.
std::vector<Assignment> held_within(Database&, const Prefix&, Instant at, size_t limit);

/// A customer's opt-out: the last one, active or not.
struct Exemption {
    std::string customer;
    std::string reason;
    std::optional<std::string> ticket, asked_by;
    std::string granted_by;  ///< operator name when stated, else login
    Instant since;
    Instant until;         ///< exclusive
    Instant counted_from;  ///< grant or last renewal: `until - counted_from` is the duration that was asked for
    std::optional<Instant> revoked;  ///< when it was taken back
    std::optional<std::string> revoke_reason;
    std::string source;
    bool active(Instant at) const { return !revoked && at < until; }
    friend bool operator==(const Exemption&, const Exemption&) = default;
};

/// What a grant or renewal states.
struct Grant {
    std::string customer, reason;
    std::optional<std::string> ticket, asked_by;
    std::optional<Seconds> duration;  ///< from now; exactly one of duration and until is set
    std::optional<Instant> until;
};

/// False: an active exemption already holds with the same facts (equal duration counts as the same `until`). Other
/// facts: conflict, names `exempt renew`. `until` not in the future: Refused (invalid). An unknown customer is created.
bool grant_exemption(Change&, const Grant&);
/// Moves the end; reason and what else is stated replace the old. Unknown customer or no active exemption: Refused
/// (not_found). False: just so already.
bool renew_exemption(Change&, const Grant&);
/// Unknown customer: Refused (not_found). No active exemption: false.
bool revoke_exemption(Change&, std::string_view customer, std::string_view reason);

std::optional<Exemption> exemption(Database&, std::string_view customer);
/// Every exemption that is active at `at` and, when given, ends before `expiring_before`, by customer id, streamed.
void each_exemption(Database&, Instant at, std::optional<Instant> expiring_before,
                    const std::function<void(const Exemption&)>&);

/// One line of `customer list`.
struct CustomerLine {
    std::string customer;
    int64_t assignments = 0;
    std::optional<Exemption> exemption;  ///< active only
};
void each_customer(Database&, Instant at, const std::function<void(const CustomerLine&)>&);

}  // namespace smtpfence
