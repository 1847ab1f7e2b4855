#include "controller/explanation.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "rules/layout.hpp"
#include "subscribers/audit.hpp"
#include "subscribers/facts.hpp"
#include "subscribers/text.hpp"

namespace smtpfence {

namespace {

// The objects of one kind that concerned `about` at a time in the past, as the change log tells: their facts.
std::map<Prefix, nlohmann::json> past_facts(Database& database, Object object, const Prefix& about, Instant at) {
    std::map<Prefix, nlohmann::json> facts;
    AuditFilter filter;
    filter.prefix = about;
    filter.until = at + Seconds{1};
    each_audit_entry(database, filter, [&](const AuditEntry& entry) {
        if (entry.object == object && entry.prefix) facts[*entry.prefix] = entry.after;
    });
    std::erase_if(facts, [&](const auto& one) { return one.second.is_null() || !one.first.contains(about); });
    return facts;
}

std::optional<Exemption> past_exemption(Database& database, const std::string& customer, Instant at) {
    std::optional<Exemption> last;
    AuditFilter filter;
    filter.customer = customer;
    filter.until = at + Seconds{1};
    each_audit_entry(database, filter, [&](const AuditEntry& entry) {
        if (entry.object != Object::exemption) return;
        last = entry.after.is_null() ? std::nullopt : std::optional(exemption_from(entry.after));
    });
    return last;
}

void add_relays(Database& database, const Prefix& about, Instant at, bool past, Policy& policy) {
    if (past) {
        for (const auto& [prefix, facts] : past_facts(database, Object::relay, about, at))
            policy.relays.push_back(prefix);
        return;
    }
    for (const Relay& relay : relays(database)) {
        if (relay.prefix.contains(about)) policy.relays.push_back(relay.prefix);
    }
}

std::optional<Pool> pool_at(Database& database, const Prefix& line, Instant at, bool past) {
    if (!past) return pool_of(database, line);
    const auto facts = past_facts(database, Object::pool, line, at);
    // In the order of prefixes the longest of those that contain one address comes last.
    return facts.empty() ? std::nullopt : std::optional(pool_from(facts.rbegin()->second));
}

// Every exemption set that a kernel could hold: which capacity it was grown to is known only to whoever grew it.
std::vector<ExemptSet> possible_exempt_sets(Family family) {
    constexpr uint32_t largest = 1U << 26;
    std::vector<ExemptSet> sets;
    for (uint8_t length = 8; length <= bits(family); ++length) {
        for (uint32_t capacity = first_capacity; capacity <= largest; capacity *= 2)
            sets.push_back({family, length, capacity});
    }
    return sets;
}

bool has_one(Kernel& kernel, const char* set4, const char* set6, const std::vector<Prefix>& known) {
    return std::any_of(known.begin(), known.end(), [&](const Prefix& prefix) {
        return kernel.find(prefix.family() == Family::v4 ? set4 : set6, to_key(prefix.first_address())).has_value();
    });
}

}  // namespace

Circumstances circumstances(Database& database, const Prefix& line, const std::optional<Prefix>& to, Instant at,
                            Instant now) {
    const bool past = at < now;
    Circumstances found;
    found.held = holder(database, line, at);
    if (found.held) {
        found.exemption =
            past ? past_exemption(database, found.held->customer, at) : exemption(database, found.held->customer);
    }
    found.pool = pool_at(database, line, at, past);
    add_relays(database, line, at, past, found.policy);
    if (to) add_relays(database, *to, at, past, found.policy);
    if (found.pool) found.policy.pools.emplace_back(found.pool->prefix, found.pool->action);
    if (found.exemption && found.exemption->active(at)) {
        const Instant end = std::min(found.exemption->until, found.held->until.value_or(found.exemption->until));
        found.policy.rights.push_back({found.held->prefix, end});
    }
    return found;
}

Judgement desired_judgement(const Circumstances& found, const Border& border, const Prefix& line,
                            const std::optional<Prefix>& to) {
    const Fence fence = compile(found.policy, border, {});
    return judge(fence, lookup_in(fence), line, to);
}

bool holds_any(Kernel& kernel, const std::vector<Prefix>& relays, const std::vector<Prefix>& pools) {
    return has_one(kernel, "relay4", "relay6", relays) || has_one(kernel, "pool4", "pool6", pools);
}

Judgement kernel_judgement(Kernel& kernel, const Prefix& line, const std::optional<Prefix>& to) {
    const std::vector<ExemptSet> sets = possible_exempt_sets(line.family());
    Fence layout;
    for (const ExemptSet& set : sets)
        layout.sets[exempt_set_name(set.family, set.length, set.capacity)].shape = exempt_shape(set);
    layout.chains = chains_with(sets);
    return judge(
        layout, [&](const std::string& set, const Key& key) { return kernel.find(set, key); }, line, to);
}

std::vector<std::string> parts_inside(Database& database, const Prefix& prefix, Instant at) {
    constexpr size_t enough = 3;
    std::vector<std::string> all;
    const auto add = [&](const Prefix& part, const std::string& text) {
        if (part != prefix && prefix.contains(part) && all.size() < enough) all.push_back(text);
    };
    for (const Pool& pool : pools(database)) add(pool.prefix, "pool " + pool.prefix.text());
    for (const Relay& relay : relays(database)) add(relay.prefix, "relay " + relay.prefix.text());
    for (const Assignment& held : held_within(database, prefix, at, enough + 1)) {
        add(held.prefix, fmt::format("{} of customer {}", held.prefix.text(), quoted(held.customer)));
    }
    return all;
}

}  // namespace smtpfence
