#include "rules/fence.hpp"

#include <algorithm>
#include <cstring>
#include <span>

#include "rules/layout.hpp"
#include "subscribers/error.hpp"

namespace smtpfence {

namespace {

constexpr uint8_t name_bits = 128;        // an interface name is 16 bytes in the kernel
constexpr size_t longest_interface = 15;  // IFNAMSIZ without the final zero

bool usable_in_interface(char c) {
    return static_cast<unsigned char>(c) > ' ' && static_cast<unsigned char>(c) < 0x7f && c != '/' && c != '"' &&
           c != '\\' && c != '*';
}

/// The half of `parent` that lies below or above its middle.
Prefix half(const Prefix& parent, bool upper) {
    Prefix::Address address = parent.address();
    if (upper) address[parent.length() / 8] |= static_cast<uint8_t>(0x80U >> (parent.length() % 8));
    return Prefix(parent.family(), address, static_cast<uint8_t>(parent.length() + 1));
}

using Pools = std::vector<std::pair<Prefix, Action>>;

/// Appends `prefix` with `action`, except where one of `inner` (sorted, all inside `prefix`) decides.
void append_disjoint(Pools& to, const Prefix& prefix, Action action, std::span<const std::pair<Prefix, Action>> inner) {
    while (!inner.empty() && inner.front().first == prefix) {
        action = inner.front().second;
        inner = inner.subspan(1);
    }
    if (inner.empty()) {
        to.emplace_back(prefix, action);
        return;
    }
    const Prefix upper = half(prefix, true);
    const auto middle =
        std::find_if(inner.begin(), inner.end(), [&](const auto& pool) { return upper.contains(pool.first); });
    const auto below = static_cast<size_t>(middle - inner.begin());
    append_disjoint(to, half(prefix, false), action, inner.first(below));
    append_disjoint(to, upper, action, inner.subspan(below));
}

/// Keys that lie inside another one are dropped: an interval set holds no overlaps.
void insert_disjoint(Set& set, std::vector<Key> keys, Held held) {
    std::sort(keys.begin(), keys.end());
    std::optional<Key> last;
    for (const Key& key : keys) {
        if (last && covers(*last, key)) continue;
        set.elements.emplace(key, held);
        last = key;
    }
}

using LineKind = std::pair<Family, uint8_t>;  // family and prefix length

std::map<LineKind, uint32_t> rights_by_kind(const Policy& policy) {
    std::map<LineKind, uint32_t> count = {{{Family::v4, 32}, 0}, {{Family::v6, 56}, 0}, {{Family::v6, 64}, 0}};
    LineKind last{};
    uint32_t* of_last = nullptr;
    for (const Right& right : policy.rights) {
        const LineKind kind{right.prefix.family(), right.prefix.length()};
        if (!of_last || kind != last) of_last = &count[kind];
        last = kind;
        ++*of_last;
    }
    return count;
}

std::vector<ExemptSet> choose_exempt_sets(const Policy& policy, const Fence& actual) {
    std::map<LineKind, uint32_t> capacity;
    for (const auto& [name, set] : actual.sets) {
        const auto exempt = parse_exempt_set_name(name);
        if (!exempt) continue;
        uint32_t& largest = capacity[{exempt->family, exempt->length}];
        largest = std::max(largest, exempt->capacity);
    }
    for (const auto& [kind, needed] : rights_by_kind(policy)) {
        uint32_t& chosen = capacity[kind];
        if (chosen == 0 || !fits(needed, chosen)) chosen = capacity_for(needed);
    }
    std::vector<ExemptSet> sets;
    for (const auto& [kind, chosen] : capacity) sets.push_back({kind.first, kind.second, chosen});
    return sets;
}

}  // namespace

Key to_key(const Prefix& prefix) { return {prefix.address(), prefix.length()}; }

Prefix to_prefix(const Key& key, KeyKind kind) {
    return Prefix(kind == KeyKind::ipv4 ? Family::v4 : Family::v6, key.bytes, key.length);
}

Key interface_key(const std::string& pattern) {
    const bool prefix = pattern.ends_with('*');
    const std::string name = pattern.substr(0, pattern.size() - (prefix ? 1 : 0));
    const auto refuse = [&](const std::string& why) {
        throw Refused(Refusal::invalid, "interface " + quoted(pattern) + " " + why);
    };
    if (name.empty()) {
        refuse(prefix ? "means every interface, the ones to the internet included; name the beginning that only "
                        "subscriber interfaces have, as in 'vlan*'"
                      : "is empty; write a name such as 'bng0', or the beginning of names such as 'vlan*'");
    }
    if (name.size() > longest_interface) refuse("is longer than the 15 bytes of an interface name; shorten it");
    if (name.find('*') != std::string::npos) refuse("has a '*' before its end; only a last '*' stands for any ending");
    if (!std::all_of(name.begin(), name.end(), usable_in_interface)) {
        refuse("holds a character that no interface name has; write it as `ip link` prints it");
    }
    Key key;
    std::copy(name.begin(), name.end(), key.bytes.begin());
    key.length = prefix ? static_cast<uint8_t>(8 * name.size()) : name_bits;
    return key;
}

std::string text(const Key& key, KeyKind kind) {
    if (kind != KeyKind::interface) return to_prefix(key, kind).short_text();
    const size_t size = key.length == name_bits ? strnlen(reinterpret_cast<const char*>(key.bytes.data()), 16)
                                                : static_cast<size_t>(key.length) / 8;
    return '"' + std::string(key.bytes.begin(), key.bytes.begin() + static_cast<ptrdiff_t>(size)) +
           (key.length == name_bits ? "\"" : "*\"");
}

bool covers(const Key& wide, const Key& narrow) {
    if (wide.length > narrow.length) return false;
    const size_t whole = wide.length / 8;
    if (std::memcmp(wide.bytes.data(), narrow.bytes.data(), whole) != 0) return false;
    const auto mask = static_cast<uint8_t>(0xff00U >> (wide.length % 8));
    return wide.length % 8 == 0 || ((wide.bytes[whole] ^ narrow.bytes[whole]) & mask) == 0;
}

std::vector<std::pair<Prefix, Action>> flatten(const std::vector<std::pair<Prefix, Action>>& pools) {
    Pools sorted = pools;
    std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    Pools flat;
    for (size_t outer = 0; outer < sorted.size();) {
        size_t end = outer + 1;
        while (end < sorted.size() && sorted[outer].first.contains(sorted[end].first)) ++end;
        append_disjoint(flat, sorted[outer].first, sorted[outer].second,
                        std::span(sorted).subspan(outer + 1, end - outer - 1));
        outer = end;
    }
    return flat;
}

void fill_relays(Fence& fence, const std::vector<Prefix>& relays) {
    std::vector<Key> keys4, keys6;
    for (const Prefix& relay : relays) (relay.family() == Family::v4 ? keys4 : keys6).push_back(to_key(relay));
    fence.sets["relay4"].elements.clear();
    fence.sets["relay6"].elements.clear();
    insert_disjoint(fence.sets["relay4"], std::move(keys4), {});
    insert_disjoint(fence.sets["relay6"], std::move(keys6), {});
}

void fill_pools(Fence& fence, const std::vector<std::pair<Prefix, Action>>& pools) {
    fence.sets["pool4"].elements.clear();
    fence.sets["pool6"].elements.clear();
    for (const auto& [prefix, action] : flatten(pools)) {
        Set& set = fence.sets[prefix.family() == Family::v4 ? "pool4" : "pool6"];
        set.elements.emplace(to_key(prefix), Held{action, never});
    }
}

Instant kernel_end(Instant until) {
    // A timeout of more than 584 years is more nanoseconds than the kernel counts.
    constexpr Instant beyond = std::chrono::sys_days(std::chrono::year(2400) / 1 / 1);
    return until < beyond ? until : never;
}

Fence compile(Policy policy, const Border& border, const Fence& actual) {
    Fence fence;
    for (const auto& [name, shape] : fixed_sets()) fence.sets[name].shape = shape;
    const std::vector<ExemptSet> exempt = choose_exempt_sets(policy, actual);
    for (const ExemptSet& set : exempt) {
        fence.sets[exempt_set_name(set.family, set.length, set.capacity)].shape = exempt_shape(set);
    }
    fill_relays(fence, policy.relays);
    fill_pools(fence, policy.pools);
    std::vector<Key> interfaces;
    for (const std::string& pattern : border.subscriber) interfaces.push_back(interface_key(pattern));
    insert_disjoint(fence.sets["subscriber"], std::move(interfaces), {border.action, never});
    std::map<LineKind, Set*> set_of;
    for (const ExemptSet& set : exempt) {
        set_of[{set.family, set.length}] = &fence.sets[exempt_set_name(set.family, set.length, set.capacity)];
    }
    for (; !policy.rights.empty(); policy.rights.pop_front()) {
        const auto& [prefix, until] = policy.rights.front();
        auto& elements = set_of.at({prefix.family(), prefix.length()})->elements;
        elements.emplace_hint(elements.end(), to_key(prefix), Held{{}, kernel_end(until)});
    }
    fence.chains = chains_with(exempt);
    return fence;
}

Fence outline(const Fence& fence) {
    Fence result;
    result.chains = fence.chains;
    for (const auto& [name, set] : fence.sets) {
        Set& copy = result.sets[name];
        copy.shape = set.shape;
        if (!parse_exempt_set_name(name)) copy.elements = set.elements;
    }
    return result;
}

Fence with_border(const Fence& border, const Fence& holder) {
    Fence result;
    for (const auto& [name, shape] : fixed_sets()) {
        Set& set = result.sets[name];
        set.shape = shape;
        if (const auto known = border.sets.find(name); known != border.sets.end() && known->second.shape == shape)
            set.elements = known->second.elements;
    }
    for (const auto& [name, set] : holder.sets) {
        if (const auto exempt = parse_exempt_set_name(name)) result.sets[name] = {exempt_shape(*exempt), set.elements};
    }
    result.chains = chains_with(exempt_sets_of(result));
    return result;
}

std::optional<std::string> exempt_set_of(const Fence& fence, const Prefix& prefix) {
    std::optional<ExemptSet> largest;
    const std::string first = exempt_set_name(prefix.family(), prefix.length(), first_capacity);
    for (auto set = fence.sets.lower_bound(first); set != fence.sets.end() && set->first.starts_with(first); ++set) {
        const auto exempt = parse_exempt_set_name(set->first);
        if (!exempt || exempt->length != prefix.length()) continue;  // "exempt6_56" also begins "exempt6_5"
        if (!largest || exempt->capacity > largest->capacity) largest = exempt;
    }
    if (!largest) return std::nullopt;
    return exempt_set_name(largest->family, largest->length, largest->capacity);
}

Seconds collected_every(const SetShape& shape) {
    constexpr uint32_t walked_in_a_second = 1 << 15;
    return shape.timeouts && !shape.dynamic ? std::max(collected_by_default, Seconds{shape.size / walked_in_a_second})
                                            : collected_by_default;
}

void forget_collected(Set& set, Instant now) {
    const Seconds counted = 10 * collected_every(set.shape);
    erase_if(set.ended, [&](const auto& element) {
        const Instant until = element.second.until;
        return until - now > ending || now - until > counted;
    });
}

void retire_ended(Set& set, Instant now) {
    erase_if(set.elements, [&](const auto& element) {
        if (element.second.until > now) return false;
        set.ended.insert(element);
        return true;
    });
    forget_collected(set, now);
}

}  // namespace smtpfence
