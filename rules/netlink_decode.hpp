#pragma once
// What nf_tables answers, as values.

#include <linux/netfilter/nf_tables.h>

#include "rules/kernel.hpp"
#include "rules/netlink_message.hpp"

namespace smtpfence {

struct TableState {
    uint32_t flags = 0;
    uint32_t owner = 0;  ///< port of the owning socket; 0: nobody
    bool dormant() const { return (flags & NFT_TABLE_F_DORMANT) != 0; }
};
TableState decode_table(const nlmsghdr&);

/// A named object of a table; `table` tells whose.
struct DecodedChain {
    std::string table, name;
    Chain chain;  ///< without rules
};
DecodedChain decode_chain(const nlmsghdr&);

struct DecodedSet {
    std::string table, name;
    bool anonymous = false;  ///< part of a rule, which is compared instead
    SetShape shape;          ///< foreign_shape() when it can't be one of ours
};
DecodedSet decode_set(const nlmsghdr&);
/// A shape that no set of ours has.
SetShape foreign_shape();

struct DecodedRule {
    std::string table, chain;
    Rule rule;  ///< its code is the kernel's own bytes when libnftnl does not know a part of it
    uint64_t packets = 0;
};
DecodedRule decode_rule(const nlmsghdr&);

/// One element as the kernel keeps it: intervals are two of them.
struct DecodedElement {
    Key key;           ///< all bits
    bool end = false;  ///< the first key behind an interval
    bool all = false;  ///< a catch-all ("*"), which has no key
    Held held;
    uint64_t packets = 0;  ///< its counter
};
/// `now`: milliseconds since 1970.
void decode_elements(const nlmsghdr&, KeyKind, int64_t now, std::vector<DecodedElement>& to);

/// Elements of an interval set, in any order, as prefixes. nullopt: one of the intervals is none.
std::optional<Elements> join_intervals(std::vector<DecodedElement>, KeyKind);

/// The prefix from `first` to before `behind` (nullopt: to the end of the space); nullopt when it is none.
std::optional<Key> interval_key(const Key& first, const std::optional<Key>& behind, KeyKind);

/// The set an element message is about.
std::string element_set(const nlmsghdr&);

}  // namespace smtpfence
