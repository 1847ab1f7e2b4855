#pragma once
// --wait: how long it took until the routers enforce a revision, or which do not.

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "controller/output.hpp"
#include "subscribers/router.hpp"

namespace smtpfence {

/// What one enlisted router did with a revision.
struct Awaited {
    std::string router;
    bool enforced = false;
    double milliseconds = 0;  ///< from the commit until its report was seen; meaningful when enforced
    std::string reason;       ///< why not; empty when enforced
};

/// The right that a change gives; of none, nothing is asked.
struct Granted {
    std::vector<Prefix> prefixes;
    Instant until = Instant::max();
};

using SteadyTime = std::chrono::steady_clock::time_point;

/// Waits until each router whose heartbeat was younger than heartbeat_limit when it was committed reports `revision` or
/// a later one, at most `limit` from `committed` on. The others are answered for at once, and so are those whose guard
/// withholds a part of what is granted (the reason begins with "guard"), or by whose clock it is over already
/// ("clock"). In the order of names; empty: no router has ever reported.
std::vector<Awaited> await_routers(Database&, Revision, SteadyTime committed, Seconds limit, const Granted& = {});

/// Why the router lets none of `prefixes` pass although it reached the revision; "": its guard withholds none of them.
std::string why_withheld(Database&, const Report&, const std::vector<Prefix>& prefixes);

/// True when there is a router and all of them enforce.
bool all_enforce(const std::vector<Awaited>&);

/// `[{"router","enforced","milliseconds"}]`, with "reason" where it is not enforced.
Json json_of(const std::vector<Awaited>&);
/// "enforced on edge1 in 4 ms, edge2 in 11 ms"; with those that do not: "not enforced on edge3: ...". "not enforced: no
/// router has reported" for none.
std::string sentence(const std::vector<Awaited>&);

}  // namespace smtpfence
