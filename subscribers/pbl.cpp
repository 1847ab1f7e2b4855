// Blocked minus exempt, as prefixes: one sweep over addresses in order, so that a few wide pools and a million exempt
// prefixes need memory for the pools only.

#include <algorithm>
#include <vector>

#include "subscribers/customer.hpp"
#include "subscribers/export.hpp"
#include "subscribers/fenced.hpp"

namespace smtpfence {

namespace {

using Number = unsigned __int128;

// An address as a number, in the upper bits for both families, so that one arithmetic serves both.
Number number_of(const Prefix::Address& address) {
    Number number = 0;
    for (uint8_t byte : address) number = (number << 8) | byte;
    return number;
}

Prefix::Address address_of(Number number) {
    Prefix::Address address{};
    for (size_t i = address.size(); i-- > 0; number >>= 8) address[i] = static_cast<uint8_t>(number & 0xff);
    return address;
}

// Addresses of one family, first and last included. IPv4 addresses fill the upper 32 bits; `last` has ones below them.
struct Range {
    Family family{};
    Number first = 0, last = 0;
};

Number below(uint8_t length) { return length == 0 ? ~Number{0} : (Number{1} << (128 - length)) - 1; }

Range range_of(const Prefix& prefix) {
    const Number first = number_of(prefix.address());
    return {prefix.family(), first, first | below(prefix.length())};
}

// The fewest prefixes that are exactly the range.
void each_prefix(const Range& range, const std::function<void(const Prefix&)>& each) {
    Number first = range.first;
    while (true) {
        uint8_t length = bits(range.family);
        while (length > 0) {
            const Number wider = below(static_cast<uint8_t>(length - 1));
            if ((first & wider) != 0 || (first | wider) > range.last) break;
            --length;
        }
        each(Prefix(range.family, address_of(first), length));
        const Number last = first | below(length);
        if (last >= range.last) return;
        first = last + 1;
    }
}

// Cuts holes, which come in order of their first address, out of ranges, which are disjoint and in order.
class Sweep {
public:
    Sweep(std::vector<Range> ranges, std::function<void(const Range&)> each)
        : ranges_(std::move(ranges)), each_(std::move(each)) {}

    void hole(const Range& hole) {
        for (; at_ < ranges_.size() && before(ranges_[at_], hole); ++at_) each_(ranges_[at_]);
        while (at_ < ranges_.size() && !before(hole, ranges_[at_])) {
            Range& range = ranges_[at_];
            if (range.first < hole.first) each_({range.family, range.first, hole.first - 1});
            if (range.last > hole.last) {
                range.first = hole.last + 1;
                return;
            }
            ++at_;
        }
    }
    void finish() {
        for (; at_ < ranges_.size(); ++at_) each_(ranges_[at_]);
    }

private:
    // Whether all of `a` comes before all of `b`.
    static bool before(const Range& a, const Range& b) {
        return a.family != b.family ? a.family < b.family : a.last < b.first;
    }

    std::vector<Range> ranges_;
    std::function<void(const Range&)> each_;
    size_t at_ = 0;
};

bool blocks(Action action) { return action == Action::drop || action == Action::reject; }

// The parts of nested pools where the longest pool blocks, in order.
std::vector<Range> blocked_ranges(const std::vector<Pool>& pools) {
    struct Open {
        Range rest;  // what of the pool lies behind the nested pools seen so far
        bool blocked, over;
    };
    std::vector<Range> ranges;
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

std::vector<Range> without_relays(std::vector<Range> ranges, const std::vector<Relay>& relays) {
    std::vector<Range> rest;
    Sweep sweep(std::move(ranges), [&](const Range& range) { rest.push_back(range); });
    for (const Relay& relay : relays) sweep.hole(range_of(relay.prefix));
    sweep.finish();
    return rest;
}

}  // namespace

void export_pbl(Database& database, const std::function<void(const Prefix&)>& each, Instant at) {
    const Reading reading(database);
    Sweep sweep(without_relays(blocked_ranges(pools(database)), relays(database)),
                [&](const Range& range) { each_prefix(range, each); });
    database.query(
        "SELECT a.first, a.length FROM exemption e CROSS JOIN assignment a "
        "WHERE a.customer = e.customer AND (a.until IS NULL OR a.until > $1) AND e.revoked IS NULL AND e.until > $1 "
        "ORDER BY a.first, a.length",
        {to_number(at)}, [&](const Row& row) { sweep.hole(range_of(Prefix::from_key(row.blob(0), row.integer(1)))); });
    sweep.finish();
}

}  // namespace smtpfence
