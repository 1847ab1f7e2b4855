#pragma once
// What routers report into the database, and what is asked of them. Neither takes a revision or an audit entry.

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "subscribers/fenced.hpp"

namespace smtpfence {

/// A router's report about itself. One row per router that runs the service; it enlists itself with its first report.
struct Report {
    std::string router;
    Revision revision = 0;               ///< enforced in its kernel
    Instant heartbeat;                   ///< when it last reported
    std::optional<Instant> last_pass;    ///< last pass that ended well
    std::optional<Instant> verified_at;  ///< kernel last found equal to what was applied
    int64_t drift_healed = 0;
    std::optional<std::string> error;  ///< why it is not at the desired revision
    std::optional<Instant> error_since;
    std::string version;               ///< of the program
    std::string notes;                 ///< what the kernel offers, warnings; one per line
    std::optional<std::string> guard;  ///< JSON text about what is withheld there
};

void write_report(Database&, const Report&);
/// As the router reported it last; 0: it never did.
Revision reported_revision(Database&, std::string_view router);
/// The rights that the router withholds become these (sorted, unique).
void write_withheld(Database&, std::string_view router, const std::vector<Prefix>&);
/// Which of `prefixes` a router withholds.
std::vector<Prefix> withheld_of(Database&, std::string_view router, const std::vector<Prefix>& prefixes);
/// By name.
std::vector<Report> reports(Database&);
/// A router counts as alive while its heartbeat is younger than this.
constexpr Seconds heartbeat_limit{15};
/// False: unknown.
bool forget_router(Database&, std::string_view router);

/// `apply` beside a running service: a request that the service answers with a result. `confirm` is the digest of what
/// is to be let go, "" for whatever is withheld.
int64_t request_apply(Database&, std::string_view router, const Actor&, const std::optional<std::string>& confirm = {});
struct ApplyRequest {
    int64_t number;
    std::string login;
    std::optional<std::string> confirm;
};
/// Unanswered requests for this router, oldest first.
std::vector<ApplyRequest> open_requests(Database&, std::string_view router);
/// `result` is JSON text for the asker.
void answer_request(Database&, int64_t number, std::string_view result);
std::optional<std::string> request_answer(Database&, int64_t number);
/// Takes an unanswered request back. False: it was answered before, or is unknown.
bool withdraw_request(Database&, int64_t number);

/// Stores with the change's revision what it opens, confirmed by its writer (lines as rules/widening.hpp has them), and
/// the digest of it. A change that recorded nothing has nothing to confirm.
void confirm_openings(Change&, std::string_view digest, std::string_view openings);
/// The digests of what was confirmed with each revision after this one; "": not known.
std::vector<std::string> confirmed_digests(Database&, Revision after);
/// What was confirmed with revisions after this one; no line is empty. Many lines at once, a million of them perhaps.
void confirmed_openings(Database&, Revision after, const std::function<void(std::string_view)>& lines);

/// Attempts at port 25 as a router's kernel counted them.
struct AttemptCount {
    Prefix source;    ///< one address
    int64_t packets;  ///< the element's counter, growing until the element times out
};
/// All counters of a router, read at once, written in slices: an attack fills more of them than one transaction should
/// hold.
struct AttemptReading {
    std::vector<AttemptCount> counts;  ///< sorted by source, unique
    size_t written = 0;                ///< of counts
    bool done = false;
};
/// Adds what grew since the router's previous reading, for the customer that holds the source now, for the next
/// `at_most` sources. Returns the number of sources with news. The previous reading is kept in the database, so that a
/// restart counts nothing twice; a source that is missing has timed out. Writes nothing when nothing grew.
int64_t write_attempts(Database&, std::string_view router, AttemptReading&, Instant now, size_t at_most);

/// One line of `attempts`.
struct Attempts {
    std::optional<std::string> customer;  ///< nullopt: nobody held the address then
    int64_t attempts = 0;
    std::vector<Prefix> sources;  ///< addresses, sorted
    Instant first_seen, last_seen;
};
/// Since `since`, by number of attempts, most first. `pool` and `action` keep only sources whose pool now is it, or has
/// it.
std::vector<Attempts> attempts(Database&, Instant since, std::optional<Prefix> pool, std::optional<Action> action);
/// For `customer show`.
std::optional<Attempts> attempts_of(Database&, std::string_view customer, Instant since);

/// Ends of history: removes assignments and attempts that ended, requests that were made, and confirmations of
/// revisions that every enlisted router enforces, before `before`: at most 500 rows of each, so that neither the caller
/// nor the write lock is held up. Whether there may be more. Nothing of
/// the last two hours goes. Audit entries stay.
bool forget_history(Database&, Instant before);

}  // namespace smtpfence
