#pragma once
// Relays and pools: what is fenced, and what stays reachable from inside the fence.
// Functions that take a Change write within it; repeating what already holds records nothing.

#include <optional>
#include <string>
#include <vector>

#include "subscribers/change.hpp"

namespace smtpfence {

/// What happens to port-25 traffic of a pool. Words and order as in product.md.
enum class Action : uint8_t { drop, reject, observe, pass };
const char* word(Action);
/// Throws Refused (invalid), naming the four words.
Action parse_action(std::string_view);

struct Relay {
    Prefix prefix;
    std::optional<std::string> note;
    std::string source;
    friend bool operator==(const Relay&, const Relay&) = default;
};

struct Pool {
    Prefix prefix;
    std::optional<std::string> name;
    Action action = Action::drop;
    std::string source;
    friend bool operator==(const Pool&, const Pool&) = default;
};

/// The widest prefix that may become a relay (configuration [relay]).
struct RelayLimits {
    uint8_t widest4 = 24;
    uint8_t widest6 = 64;
};

/// Wider than the limits: Refused (invalid). The same prefix with another note (no note: not stated): conflict. Returns
/// whether it was new.
bool add_relay(Change&, const Prefix&, const std::optional<std::string>& note, const RelayLimits&);
/// Unknown: false. Removing the last relay while a pool drops or rejects: Refused (conflict).
bool remove_relay(Change&, const Prefix&);
/// In prefix order.
std::vector<Relay> relays(Database&);

/// Length 0: Refused (invalid). The same prefix with another action or name (no name: not stated): conflict, names
/// `pool set`. Returns whether it was new.
bool add_pool(Change&, const Prefix&, const std::optional<std::string>& name, Action);
/// Unknown pool: Refused (not_found). Returns whether anything changed.
bool set_pool(Change&, const Prefix&, Action);
/// Unknown: false.
bool remove_pool(Change&, const Prefix&);
/// In prefix order.
std::vector<Pool> pools(Database&);
/// The longest pool that contains all of `prefix`.
std::optional<Pool> pool_of(Database&, const Prefix&);
/// The same among `pools`, which must be in prefix order; nullptr: none.
const Pool* longest_pool(const std::vector<Pool>& pools, const Prefix&);
/// The longest prefix that is or was a pool, as the change log knows, and contains all of `prefix`.
std::optional<Prefix> past_pool_of(Database&, const Prefix&);

/// A warning for each family that pools drop or reject and that has no relay, while the other family has one: right
/// where mail leaves over the other family alone.
std::vector<std::string> missing_relays(const std::vector<Relay>&, const std::vector<Pool>&);

/// missing_relays(), relays that lie inside a pool, one warning each (policy.md row 15), and what else is legal but
/// unlikely to be meant.
std::vector<std::string> doubts(const std::vector<Relay>&, const std::vector<Pool>&);

}  // namespace smtpfence
