#include "controller/pool_cause.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "subscribers/policy.hpp"

namespace smtpfence {

namespace {

std::string with_cause(Database& database, std::string_view role, const Prefix& pool) {
    return fmt::format("{} pool {}, {}", role, pool.text(), object_cause(database, Object::pool, pool));
}

// A pool inside `prefix`, for which its map element makes room.
std::optional<Prefix> nested_pool(Database& database, const Prefix& prefix) {
    for (const Pool& pool : pools(database)) {
        if (pool.prefix != prefix && prefix.contains(pool.prefix)) return pool.prefix;
    }
    return std::nullopt;
}

// Whether the map holds a part of `prefix` already, so that it becomes whole again.
bool in_parts(const Fence& actual, const std::string& map, const Prefix& prefix) {
    const auto set = actual.sets.find(map);
    if (set == actual.sets.end()) return false;
    const auto& elements = set->second.elements;
    return std::any_of(elements.begin(), elements.end(), [&](const auto& element) {
        const Prefix part = to_prefix(element.first, set->second.shape.key);
        return part != prefix && prefix.contains(part);
    });
}

}  // namespace

std::string pool_cause(Database& database, const Fence& actual, const ChangeLine& line) {
    const Prefix& prefix = *line.prefix;
    const bool deleted = line.verb == "delete";
    const auto pool = pool_of(database, prefix);
    if (pool && pool->prefix == prefix) {
        const auto nested = deleted ? nested_pool(database, prefix) : std::nullopt;
        if (nested) return with_cause(database, "gives way to", *nested);
        const bool whole = !deleted && in_parts(actual, line.where, prefix);
        return (whole ? "whole again: " : "") + object_cause(database, Object::pool, prefix);
    }
    const auto before = past_pool_of(database, prefix);
    if (deleted && before == prefix) return object_cause(database, Object::pool, prefix);
    if (pool) return with_cause(database, "part of", pool->prefix);
    return before ? with_cause(database, "part of", *before) : object_cause(database, Object::pool, prefix);
}

}  // namespace smtpfence
