// Blocked minus exempt, as prefixes: one sweep over addresses in order, so that a few wide pools and a million exempt
// prefixes need memory for the pools only.

#include <algorithm>
#include <vector>

#include "subscribers/address_range.hpp"
#include "subscribers/customer.hpp"
#include "subscribers/export.hpp"
#include "subscribers/fenced.hpp"

namespace smtpfence {

namespace {

bool blocks(Action action) { return action == Action::drop || action == Action::reject; }

// The parts of nested pools where the longest pool blocks, in order.
Ranges blocked_ranges(const std::vector<Pool>& pools) {
    struct Open {
        Range rest;  // what of the pool lies behind the nested pools seen so far
        bool blocked, over;
    };
    Ranges ranges;
    std::vector<Open> open;
    const auto close = [&] {
        if (open.back().blocked && !open.back().over) ranges.push_back(open.back().rest);
        open.pop_back();
    };
    for (const Pool& pool : pools) {
        const Range range = range_of(pool.prefix);
        while (!open.empty() && (open.back().rest.family != range.family || open.back().rest.last < range.first)) {
            close();
        }
        if (!open.empty()) {
            Open& wider = open.back();
            if (wider.blocked && wider.rest.first < range.first) {
                ranges.push_back({range.family, wider.rest.first, range.first - 1});
            }
            wider.over = wider.rest.last == range.last;
            if (!wider.over) wider.rest.first = range.last + 1;
        }
        open.push_back({range, blocks(pool.action), false});
    }
    while (!open.empty()) close();
    std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) {
        return a.family != b.family ? a.family < b.family : a.first < b.first;
    });
    return ranges;
}

std::vector<Prefix> prefixes_of(const std::vector<Relay>& relays) {
    std::vector<Prefix> prefixes;
    for (const Relay& relay : relays) prefixes.push_back(relay.prefix);
    return prefixes;
}

}  // namespace

void export_pbl(Database& database, const std::function<void(const Prefix&)>& each, Instant at) {
    const Reading reading(database);
    Sweep sweep(without(blocked_ranges(pools(database)), prefixes_of(relays(database))),
                [&](const Range& range) { each_prefix(range, each); });
    database.query(
        "SELECT a.first, a.length FROM exemption e CROSS JOIN assignment a "
        "WHERE a.customer = e.customer AND (a.until IS NULL OR a.until > $1) AND e.revoked IS NULL AND e.until > $1 "
        "ORDER BY a.first, a.length",
        {to_number(at)}, [&](const Row& row) { sweep.hole(range_of(Prefix::from_key(row.blob(0), row.integer(1)))); });
    sweep.finish();
}

}  // namespace smtpfence
