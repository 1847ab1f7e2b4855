#include "rules/widening.hpp"

#include <algorithm>
#include <array>

#include "rules/layout.hpp"
#include "subscribers/error.hpp"

namespace smtpfence {

namespace {

constexpr std::array pool_maps{std::pair{"pool4", KeyKind::ipv4}, std::pair{"pool6", KeyKind::ipv6}};
constexpr std::array relay_sets{std::pair{"relay4", KeyKind::ipv4}, std::pair{"relay6", KeyKind::ipv6}};

bool closes(const Held& held) { return held.action == Action::drop || held.action == Action::reject; }

const Set& set_of(const Fence& fence, const std::string& name) {
    static const Set none;
    const auto found = fence.sets.find(name);
    return found == fence.sets.end() ? none : found->second;
}

std::vector<Prefix> relays_of(const Fence& fence) {
    std::vector<Prefix> relays;
    for (const auto& [name, kind] : relay_sets) {
        for (const auto& element : set_of(fence, name).elements) relays.push_back(to_prefix(element.first, kind));
    }
    return relays;
}

template <typename Wanted>
Ranges pool_space(const Fence& fence, Wanted wanted) {
    std::vector<Range> ranges;
    for (const auto& [name, kind] : pool_maps) {
        for (const auto& [key, held] : set_of(fence, name).elements) {
            if (wanted(held)) ranges.push_back(range_of(to_prefix(key, kind)));
        }
    }
    return merged(std::move(ranges));
}

template <typename T>
std::vector<T> minus(const std::vector<T>& all, const std::vector<T>& part) {
    std::vector<T> rest;
    std::set_difference(all.begin(), all.end(), part.begin(), part.end(), std::back_inserter(rest));
    return rest;
}

template <typename T>
std::vector<T> plus(const std::vector<T>& a, const std::vector<T>& b) {
    std::vector<T> all;
    std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(all));
    return all;
}

/// Of what is mostly sorted already.
template <typename T>
void sort(std::vector<T>& all) {
    if (!std::is_sorted(all.begin(), all.end())) std::sort(all.begin(), all.end());
}

std::vector<Prefix> prefixes_of(const Ranges& ranges) {
    std::vector<Prefix> prefixes;
    for (const Range& range : ranges) each_prefix(range, [&](const Prefix& prefix) { prefixes.push_back(prefix); });
    return prefixes;
}

/// Of each set that may hold the prefix: beside the one in use there may be its successor, filled so far.
std::vector<const Elements*> exemptions_for(const Fence& fence, const Prefix& prefix) {
    std::vector<const Elements*> all;
    for (const auto& [name, set] : fence.sets) {
        const auto exempt = name.starts_with("exempt") ? parse_exempt_set_name(name) : std::nullopt;
        if (exempt && exempt->family == prefix.family() && exempt->length == prefix.length())
            all.push_back(&set.elements);
    }
    return all;
}

std::vector<Prefix> newly_exempt(const Fence& before, const Fence& after, const Ranges& closed, Instant now) {
    std::vector<Prefix> prefixes;
    for (const auto& [name, set] : after.sets) {
        if (!parse_exempt_set_name(name) || set.elements.empty()) continue;
        std::vector<std::pair<Elements::const_iterator, Elements::const_iterator>> known;
        size_t at_most_known = 0;
        for (const Elements* elements : exemptions_for(before, to_prefix(set.elements.begin()->first, set.shape.key))) {
            known.emplace_back(elements->begin(), elements->end());
            at_most_known += elements->size();
        }
        prefixes.reserve(prefixes.size() + set.elements.size() - std::min(set.elements.size(), at_most_known));
        for (const auto& element : set.elements) {
            bool was = false;
            for (auto& [at, end] : known) {  // all stand in the same order
                while (at != end && at->first < element.first) ++at;
                was = was || (at != end && at->first == element.first && at->second.until > now);
            }
            if (!was) prefixes.push_back(to_prefix(element.first, set.shape.key));
        }
    }
    sort(prefixes);
    std::erase_if(prefixes, [at = closed.begin(), end = closed.end()](const Prefix& prefix) mutable {
        const Range range = range_of(prefix);
        while (at != end && (at->family != range.family ? at->family < range.family : at->last < range.first)) ++at;
        return at == end || at->family != range.family || at->first > range.last;
    });
    return prefixes;
}

std::vector<Prefix> new_relays(const Fence& before, const Fence& after) {
    std::vector<Prefix> fresh = relays_of(after);
    const std::vector<Prefix> known = relays_of(before);
    std::erase_if(fresh, [&](const Prefix& relay) {
        return std::any_of(known.begin(), known.end(), [&](const Prefix& other) { return other.contains(relay); });
    });
    return fresh;
}

std::vector<Key> opened_interfaces(const Fence& before, const Fence& after) {
    std::vector<Key> opened;
    const auto& now_closed = set_of(after, "subscriber").elements;
    for (const auto& [key, held] : set_of(before, "subscriber").elements) {
        const Key& pattern = key;
        const bool stays = std::any_of(now_closed.begin(), now_closed.end(), [&](const auto& element) {
            return covers(element.first, pattern) && closes(element.second);
        });
        if (closes(held) && !stays) opened.push_back(pattern);
    }
    return opened;
}

/// `after` outside the released space, `before` inside.
void withhold_pools(Fence& desired, const Fence& before, const Ranges& released) {
    std::vector<std::pair<Prefix, Action>> pools;
    const std::vector<Prefix> holes = prefixes_of(released);
    const auto collect = [&](Action action, const Ranges& ranges) {
        for (const Prefix& prefix : prefixes_of(ranges)) pools.emplace_back(prefix, action);
    };
    for (const Action action : {Action::drop, Action::reject, Action::observe, Action::pass}) {
        const auto is_it = [&](const Held& held) { return held.action == action; };
        collect(action, without(pool_space(desired, is_it), holes));
        if (closes({action, never})) collect(action, common(pool_space(before, is_it), released));
    }
    fill_pools(desired, pools);
}

void withhold_relays(Fence& desired, const Fence& before, const Widening& held) {
    std::vector<Prefix> relays = relays_of(desired);
    const std::vector<Prefix> known = relays_of(before);
    const std::vector<Prefix> fresh = new_relays(before, desired);
    const auto withheld = [&](const Prefix& relay) {
        return std::binary_search(held.relays.begin(), held.relays.end(), relay) ||
               (std::binary_search(fresh.begin(), fresh.end(), relay) &&
                !common({range_of(relay)}, held.released).empty());
    };
    std::vector<Prefix> kept;
    for (const Prefix& relay : relays) {
        if (!withheld(relay)) {
            kept.push_back(relay);
            continue;
        }
        std::copy_if(known.begin(), known.end(), std::back_inserter(kept),
                     [&](const Prefix& narrower) { return relay.contains(narrower); });
    }
    fill_relays(desired, kept.empty() ? known : kept);
}

void withhold_interfaces(Fence& desired, const Fence& before, const std::vector<Key>& interfaces) {
    auto& elements = desired.sets["subscriber"].elements;
    for (const Key& pattern : interfaces) {
        for (auto element = elements.begin(); element != elements.end();) {
            const bool overlaps = covers(element->first, pattern) || covers(pattern, element->first);
            element = overlaps ? elements.erase(element) : std::next(element);
        }
        elements.emplace(pattern, set_of(before, "subscriber").elements.at(pattern));
    }
}

}  // namespace

bool is_exempt(const Fence& fence, const Prefix& prefix, Instant now) {
    const auto sets = exemptions_for(fence, prefix);
    return std::any_of(sets.begin(), sets.end(), [&, key = to_key(prefix)](const Elements* elements) {
        const auto found = elements->find(key);
        return found != elements->end() && found->second.until > now;
    });
}

Ranges closed_space(const Fence& fence) { return without(pool_space(fence, closes), relays_of(fence)); }

Ranges exempted_space(const Ranges& closed, const Widening& opening) {
    std::vector<Range> ranges;
    for (const Prefix& prefix : opening.exempted) ranges.push_back(range_of(prefix));
    return common(closed, merged(std::move(ranges)));
}

Widening widening(const Fence& before, const Fence& after, Instant now) {
    Widening result;
    const Ranges closed = closed_space(before);
    result.released = merged(without(closed, prefixes_of(closed_space(after))));
    result.relays = new_relays(before, after);
    result.exempted = newly_exempt(before, after, closed, now);
    result.interfaces = opened_interfaces(before, after);
    return result;
}

void withhold(Fence& desired, const Fence& before, const Widening& held) {
    if (held.empty()) return;
    if (!held.released.empty()) withhold_pools(desired, before, held.released);
    withhold_relays(desired, before, held);
    withhold_interfaces(desired, before, held.interfaces);
    for (const Prefix& prefix : held.exempted) {
        if (const auto name = exempt_set_of(desired, prefix)) desired.sets.at(*name).elements.erase(to_key(prefix));
    }
}

Widening joined(const Widening& a, const Widening& b) {
    std::vector<Range> released = a.released;
    released.insert(released.end(), b.released.begin(), b.released.end());
    return {merged(std::move(released)), plus(a.relays, b.relays), plus(a.exempted, b.exempted),
            plus(a.interfaces, b.interfaces)};
}

Widening without(const Widening& all, const Widening& part) {
    return {without(all.released, prefixes_of(part.released)), minus(all.relays, part.relays),
            minus(all.exempted, part.exempted), minus(all.interfaces, part.interfaces)};
}

std::string text(const Widening& opening) {
    std::string lines;
    for (const Prefix& prefix : prefixes_of(opening.released)) lines += "release " + prefix.text() + "\n";
    for (const Prefix& prefix : opening.relays) lines += "relay " + prefix.text() + "\n";
    for (const Prefix& prefix : opening.exempted) lines += "exempt " + prefix.text() + "\n";
    for (const Key& pattern : opening.interfaces) lines += "interface " + text(pattern, KeyKind::interface) + "\n";
    return lines;
}

Widening parse_widening(std::string_view lines) {
    WideningReader reader;
    reader.read(lines);
    return std::move(reader).widening();
}

void WideningReader::read(std::string_view lines) {
    constexpr size_t shortest_line = 15;
    if (lines.size() > (size_t{1} << 20))
        read_.exempted.reserve(read_.exempted.size() + lines.size() / shortest_line);  // hardly anything else
    while (!lines.empty()) {
        const std::string_view line = lines.substr(0, lines.find('\n'));
        lines.remove_prefix(std::min(line.size() + 1, lines.size()));
        const std::string_view word = line.substr(0, line.find(' '));
        const std::string_view rest = line.substr(std::min(word.size() + 1, line.size()));
        if (word == "release") {
            read_.released.push_back(range_of(Prefix::parse(rest)));
        } else if (word == "relay") {
            read_.relays.push_back(Prefix::parse(rest));
        } else if (word == "exempt") {
            read_.exempted.push_back(Prefix::parse(rest));
        } else if (word == "interface" && rest.size() > 2) {
            read_.interfaces.push_back(interface_key(std::string(rest.substr(1, rest.size() - 2))));
        } else {
            throw Refused(Refusal::invalid, "no opening that this version knows: " + quoted(line));
        }
    }
}

Widening WideningReader::widening() && {
    read_.released = merged(std::move(read_.released));
    sort(read_.relays);
    sort(read_.exempted);
    sort(read_.interfaces);
    return std::move(read_);
}

}  // namespace smtpfence
