#include "controller/probe_samples.hpp"

#include <algorithm>

#include "subscribers/address_range.hpp"

namespace smtpfence {

namespace {

constexpr Seconds least_right{60};  // shorter ones could end while packets are on their way
constexpr size_t most_rights_looked_at = 1000;

/// Addresses that no router forwards (RFC 6890).
std::vector<Prefix> never_forwarded(Family family) {
    std::vector<Prefix> all;
    for (const char* text :
         {"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/8", "fe80::/10", "ff00::/8"}) {
        if (const Prefix prefix = Prefix::parse(text); prefix.family() == family) all.push_back(prefix);
    }
    return all;
}

/// Where a foreign server is looked for: the documentation's networks, then everywhere.
std::vector<Prefix> foreign(Family family) {
    std::vector<Prefix> all;
    for (const char* text : {"198.51.100.0/24", "192.0.2.0/24", "203.0.113.0/24", "198.18.0.0/15", "0.0.0.0/0",
                             "2001:db8::/32", "3fff::/20", "2000::/3"}) {
        if (const Prefix prefix = Prefix::parse(text); prefix.family() == family) all.push_back(prefix);
    }
    return all;
}

class Choice {
public:
    Choice(const Policy& policy, Family family, Instant now) : policy_(policy), family_(family), now_(now) {
        taken_ = never_forwarded(family);
        for (const Prefix& relay : policy.relays) take(relay);
        for (const Right& right : policy.rights) take(right.prefix);
        std::sort(taken_.begin(), taken_.end());
        for (const auto& pool : policy.pools) {
            if (pool.first.family() == family) pools_.emplace_back(pool.first, pool.second);
        }
        std::sort(pools_.begin(), pools_.end());
    }

    std::map<Action, Prefix> consumers() const {
        std::map<Action, Prefix> found;
        for (const auto& [pool, action] : pools_) {
            if (found.contains(action)) continue;
            if (const auto address = free_address(pool, inner_pools(pool))) found.emplace(action, *address);
        }
        return found;
    }

    std::optional<Prefix> expert() const {
        std::optional<Prefix> any;
        size_t left = most_rights_looked_at;
        for (const Right& right : policy_.rights) {
            if (right.prefix.family() != family_ || right.until < now_ + least_right) continue;
            const auto address = usable(right.prefix);
            if (!address) continue;
            const auto action = action_of(*address);
            if (action == Action::drop || action == Action::reject) return address;
            if (!any) any = address;
            if (--left == 0) break;
        }
        return any;
    }

    std::optional<Prefix> relay() const {
        for (const Prefix& prefix : policy_.relays) {
            if (const auto address = prefix.family() == family_ ? usable(prefix) : std::nullopt) return address;
        }
        return std::nullopt;
    }

    /// Outside everything that the policy names, and none of `others`.
    std::optional<Prefix> stranger(std::vector<Prefix> others) const {
        for (const auto& pool : pools_) others.push_back(pool.first);
        std::sort(others.begin(), others.end());
        for (const Prefix& where : foreign(family_)) {
            if (const auto address = free_address(where, others)) return address;
        }
        return std::nullopt;
    }

private:
    void take(const Prefix& prefix) {
        if (prefix.family() == family_) taken_.push_back(prefix);
    }

    std::vector<Prefix> inner_pools(const Prefix& pool) const {
        std::vector<Prefix> inner;
        for (const auto& other : pools_) {
            if (other.first != pool && pool.contains(other.first)) inner.push_back(other.first);
        }
        return inner;
    }

    std::optional<Action> action_of(const Prefix& address) const {
        std::optional<Action> longest;
        for (const auto& [pool, action] : pools_) {
            if (pool.contains(address)) longest = action;
        }
        return longest;
    }

    /// The first host in `where` that is neither taken nor in `holes` (sorted). A network's own first address is the
    /// last that anybody has.
    std::optional<Prefix> free_address(const Prefix& where, std::vector<Prefix> holes) const {
        if (where.length() + 2 <= bits(family_)) {
            const Prefix own = where.first_address();
            holes.insert(std::lower_bound(holes.begin(), holes.end(), own), own);
        }
        const Ranges left = without(without({range_of(where)}, holes), taken_in(where));
        if (left.empty()) return std::nullopt;
        std::optional<Prefix> first;
        each_prefix(left.front(), [&](const Prefix& prefix) { first = first ? first : prefix.first_address(); });
        return first;
    }

    std::vector<Prefix> taken_in(const Prefix& where) const {
        for (uint8_t length = 0; length <= where.length(); ++length) {
            if (std::binary_search(taken_.begin(), taken_.end(), where.widened(length))) return {where};
        }
        const Prefix last(family_, where.last(), bits(family_));
        return {std::lower_bound(taken_.begin(), taken_.end(), where),
                std::upper_bound(taken_.begin(), taken_.end(), last)};
    }

    /// An address of the prefix that routers forward.
    std::optional<Prefix> usable(const Prefix& prefix) const {
        const Ranges left = without({range_of(prefix)}, never_forwarded(family_));
        if (left.empty() || left.front().first != range_of(prefix).first) return std::nullopt;
        return prefix.first_address();
    }

    const Policy& policy_;
    Family family_;
    Instant now_;
    std::vector<Prefix> taken_;                     ///< sorted
    std::vector<std::pair<Prefix, Action>> pools_;  ///< sorted
};

}  // namespace

Samples samples(const Policy& policy, Family family, Instant now) {
    const Choice choice(policy, family, now);
    Samples all{choice.consumers(), choice.expert(), choice.relay(), choice.stranger({}), {}};
    if (all.server) all.outside = choice.stranger({*all.server});
    return all;
}

}  // namespace smtpfence
