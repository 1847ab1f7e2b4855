#include "subscribers/address_range.hpp"

#include <algorithm>
#include <cmath>

namespace smtpfence {

namespace {

AddressNumber number_of(const Prefix::Address& address) {
    AddressNumber number = 0;
    for (uint8_t byte : address) number = (number << 8) | byte;
    return number;
}

Prefix::Address address_of(AddressNumber number) {
    Prefix::Address address{};
    for (size_t i = address.size(); i-- > 0; number >>= 8) address[i] = static_cast<uint8_t>(number & 0xff);
    return address;
}

AddressNumber below(uint8_t length) {
    return length == 0 ? ~AddressNumber{0} : (AddressNumber{1} << (128 - length)) - 1;
}

/// Whether all of `a` comes before all of `b`.
bool before(const Range& a, const Range& b) { return a.family != b.family ? a.family < b.family : a.last < b.first; }

}  // namespace

Range range_of(const Prefix& prefix) {
    const AddressNumber first = number_of(prefix.address());
    return {prefix.family(), first, first | below(prefix.length())};
}

void each_prefix(const Range& range, const std::function<void(const Prefix&)>& each) {
    AddressNumber first = range.first;
    while (true) {
        uint8_t length = bits(range.family);
        while (length > 0) {
            const AddressNumber wider = below(static_cast<uint8_t>(length - 1));
            if ((first & wider) != 0 || (first | wider) > range.last) break;
            --length;
        }
        each(Prefix(range.family, address_of(first), length));
        const AddressNumber last = first | below(length);
        if (last >= range.last) return;
        first = last + 1;
    }
}

double size_of(const Ranges& ranges, Family family) {
    const int unit = family == Family::v4 ? 96 : 64;  // bits below an IPv4 address, and below a /64
    double size = 0;
    for (const Range& range : ranges) {
        if (range.family == family) size += std::ldexp(static_cast<double>(range.last - range.first) + 1, -unit);
    }
    return size;
}

void Sweep::hole(const Range& hole) {
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

void Sweep::finish() {
    for (; at_ < ranges_.size(); ++at_) each_(ranges_[at_]);
}

Ranges merged(std::vector<Range> ranges) {
    const auto earlier = [](const Range& a, const Range& b) {
        return a.family != b.family ? a.family < b.family : a.first < b.first;
    };
    if (!std::is_sorted(ranges.begin(), ranges.end(), earlier)) std::sort(ranges.begin(), ranges.end(), earlier);
    Ranges result;
    for (const Range& range : ranges) {
        if (!result.empty() && result.back().family == range.family &&
            (range.first <= result.back().last || range.first - 1 == result.back().last)) {
            result.back().last = std::max(result.back().last, range.last);
        } else {
            result.push_back(range);
        }
    }
    return result;
}

Ranges without(Ranges ranges, const std::vector<Prefix>& holes) {
    Ranges rest;
    Sweep sweep(std::move(ranges), [&](const Range& range) { rest.push_back(range); });
    for (const Prefix& hole : holes) sweep.hole(range_of(hole));
    sweep.finish();
    return rest;
}

Ranges common(const Ranges& a, const Ranges& b) {
    Ranges both;
    for (auto i = a.begin(), j = b.begin(); i != a.end() && j != b.end();) {
        if (before(*i, *j)) {
            ++i;
        } else if (before(*j, *i)) {
            ++j;
        } else {
            both.push_back({i->family, std::max(i->first, j->first), std::min(i->last, j->last)});
            i->last < j->last ? ++i : ++j;
        }
    }
    return both;
}

}  // namespace smtpfence
