#pragma once
// Ranges of addresses: arithmetic on prefixes whose results are no prefixes (blocked minus exempt, fenced before minus
// fenced after). One sweep in address order; memory is that of the ranges, never that of the holes.
//
//   Ranges left = without({range_of(pool)}, exempt);
//   each_prefix(left.front(), [](const Prefix& p) { ... });

#include <functional>
#include <vector>

#include "subscribers/prefix.hpp"

namespace smtpfence {

/// An address in the upper bits for both families, so that one arithmetic serves both.
using AddressNumber = unsigned __int128;

/// Addresses of one family, first and last included. IPv4 addresses fill the upper 32 bits; `last` has ones below them.
struct Range {
    Family family{};
    AddressNumber first = 0, last = 0;
    friend bool operator==(const Range&, const Range&) = default;
};
using Ranges = std::vector<Range>;  ///< disjoint and in order, IPv4 first

Range range_of(const Prefix&);

/// The fewest prefixes that are exactly the range, in order.
void each_prefix(const Range&, const std::function<void(const Prefix&)>& each);

/// IPv4 addresses, or IPv6 /64s (a part of one counts in part).
double size_of(const Ranges&, Family);

/// Cuts holes, which come in order of their first address, out of ranges, which are disjoint and in order.
class Sweep {
public:
    Sweep(Ranges ranges, std::function<void(const Range&)> each) : ranges_(std::move(ranges)), each_(std::move(each)) {}

    void hole(const Range&);
    void finish();

private:
    Ranges ranges_;
    std::function<void(const Range&)> each_;
    size_t at_ = 0;
};

/// In order, overlapping and adjacent ones made one: equal sets of addresses are equal values.
Ranges merged(std::vector<Range>);
/// What of `ranges` lies outside `holes` (sorted).
Ranges without(Ranges ranges, const std::vector<Prefix>& holes);
/// What two have in common.
Ranges common(const Ranges&, const Ranges&);

}  // namespace smtpfence
