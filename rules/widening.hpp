#pragma once
// What one fence would let pass that another one did not: what the guard measures, withholds and has confirmed.
//
//   Widening opening = widening(in_force, desired, now());
//   withhold(desired, in_force, opening);      // desired is as closed as in_force there, and as new elsewhere

#include <string>
#include <string_view>
#include <vector>

#include "rules/fence.hpp"
#include "subscribers/address_range.hpp"

namespace smtpfence {

/// A set of openings; each list sorted and without repetition.
struct Widening {
    Ranges released;             ///< dropped or rejected by a pool before; observed, passed, in no pool or a relay then
    std::vector<Prefix> relays;  ///< reachable for everybody, and in no relay before
    std::vector<Prefix> exempted;  ///< exempt, and not before, while a pool drops or rejects around it
    std::vector<Key> interfaces;   ///< subscriber interfaces that dropped or rejected, and no longer would
    size_t size() const { return released.size() + relays.size() + exempted.size() + interfaces.size(); }
    bool empty() const { return size() == 0; }
    friend bool operator==(const Widening&, const Widening&) = default;
};

/// Costs one walk over both. Rights of `before` that are over at `now` count as gone.
Widening widening(const Fence& before, const Fence& after, Instant now);

/// Whether the fence holds a right for exactly this prefix that is not over.
bool is_exempt(const Fence&, const Prefix&, Instant now);

/// The space that pools drop or reject, without relays.
Ranges closed_space(const Fence&);

/// What of `closed` the exempt prefixes of `widening` open.
Ranges exempted_space(const Ranges& closed, const Widening&);

/// Makes `desired` as closed as `before` where `held` would open it. Without any relay of its own it keeps those of
/// `before`: what stays closed must not lose its way out.
void withhold(Fence& desired, const Fence& before, const Widening& held);

Widening joined(const Widening&, const Widening&);
/// What of `all` is not in `part`.
Widening without(const Widening& all, const Widening& part);

/// One opening a line: "release 100.64.0.0/10", "relay 192.0.2.0/24", "exempt 100.64.3.7", "interface \"vlan*\"".
/// Canonical: equal widenings have equal text.
std::string text(const Widening&);
/// Inverse of text(). Throws Refused (invalid) naming the line.
Widening parse_widening(std::string_view);

/// parse_widening() of several texts, joined.
class WideningReader {
public:
    /// Throws Refused (invalid) naming the line.
    void read(std::string_view lines);
    Widening widening() &&;

private:
    Widening read_;
};

}  // namespace smtpfence
