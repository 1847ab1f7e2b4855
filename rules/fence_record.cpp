#include "rules/fence_record.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "rules/difference.hpp"
#include "rules/layout.hpp"
#include "subscribers/error.hpp"

namespace smtpfence {

namespace {

[[noreturn]] void refuse(std::string_view line) {
    throw Refused(Refusal::invalid, "no element of a fence: " + quoted(line));
}

/// "pool" for pool4 and pool6; empty for what the packet path fills.
std::string_view word_of(std::string_view set) {
    for (const std::string_view word : {"relay", "pool", "exempt"}) {
        if (set.starts_with(word)) return word;
    }
    return set == "subscriber" ? "interface" : "";
}

/// What the lines of a set have in common.
struct Kind {
    std::string_view word;  ///< "exempt"; empty: the set has no lines
    KeyKind key{};
};

Kind kind_of(const std::string& set) {
    const auto shape = shape_of(set);
    return shape ? Kind{word_of(set), shape->key} : Kind{};
}

void append_key(std::string& to, char sign, const Kind& kind, const Key& key) {
    to += sign;
    to += kind.word;
    to += ' ';
    if (kind.key == KeyKind::interface) {
        to += text(key, kind.key);
    } else {
        to_prefix(key, kind.key).append_text(to);
    }
}

void append_added(std::string& to, const Kind& kind, const Key& key, const Held& held) {
    append_key(to, '+', kind, key);
    if (held.action) {
        to += ' ';
        to += word(*held.action);
    } else if (kind.word == "exempt") {
        to += ' ';
        to += held.until == never ? std::string_view("never") : fmt::format_int(to_number(held.until)).c_str();
    }
    to += '\n';
}

void append_removed(std::string& to, const Kind& kind, const Key& key) {
    append_key(to, '-', kind, key);
    to += '\n';
}

void each_added_line(const AddElements& add, const RecordLines& lines) {
    const Kind kind = kind_of(add.set);
    std::string words;
    for (const auto& [key, held] : add.elements) {
        words.clear();
        append_added(words, kind, key, held);
        lines(words);
    }
}

const Key& key_of(const Key& key) { return key; }
const Key& key_of(const ElementList::value_type& element) { return element.first; }

template <typename List>
void each_removed_line(const std::string& set, const List& gone, const RecordLines& lines) {
    const Kind kind = kind_of(set);
    if (kind.word.empty()) return;  // a leftover that was never ours
    std::string words;
    for (const auto& one : gone) {
        words.clear();
        append_removed(words, kind, key_of(one));
        lines(words);
    }
}

/// The next word of a line, taken off it.
std::string_view take_word(std::string_view& line) {
    const std::string_view word = line.substr(0, line.find(' '));
    line.remove_prefix(std::min(word.size() + 1, line.size()));
    return word;
}

Instant end_of(std::string_view text) {
    if (text == "never") return never;
    int64_t seconds = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    if (error != std::errc() || end != text.data() + text.size() || seconds < 0 || seconds > (int64_t{1} << 40)) {
        throw Refused(Refusal::invalid, "no end of a right: " + quoted(text));
    }
    return to_instant(seconds);
}

Held held_of(std::string_view kind, std::string_view rest) {
    if (kind == "relay" && rest.empty()) return {};
    if (kind == "exempt") return {{}, end_of(rest)};
    if (kind == "pool" || kind == "interface") return {parse_action(rest), never};
    throw Refused(Refusal::invalid, "no kind of element: " + quoted(kind));
}

/// Of relays or pools.
std::string border_set(std::string_view kind, const Prefix& prefix) {
    return std::string(kind) + (prefix.family() == Family::v4 ? "4" : "6");
}

}  // namespace

void each_record_line(const Fence& fence, const RecordLines& lines) {
    std::string words;
    for (const auto& [name, set] : fence.sets) {
        const Kind kind = kind_of(name);
        if (kind.word.empty()) continue;
        for (const auto& [key, held] : set.ended) {
            words.clear();
            append_added(words, kind, key, held);
            append_removed(words, kind, key);
            lines(words);
        }
        for (const auto& [key, held] : set.elements) {
            words.clear();
            append_added(words, kind, key, held);
            lines(words);
        }
    }
}

void each_record_line(const Transaction& transaction, const RecordLines& lines) {
    for (const Operation& operation : transaction.operations) {
        if (const auto* add = std::get_if<AddElements>(&operation)) {
            each_added_line(*add, lines);
        } else if (const auto* remove = std::get_if<DeleteElements>(&operation)) {
            each_removed_line(remove->set, remove->elements, lines);
        } else if (const auto* gone = std::get_if<DeleteSet>(&operation)) {
            each_removed_line(gone->name, gone->ended, lines);
        }
    }
}

void each_added_line(const Transaction& transaction, const RecordLines& lines) {
    for (const Operation& operation : transaction.operations) {
        if (const auto* add = std::get_if<AddElements>(&operation)) each_added_line(*add, lines);
    }
}

std::string record_lines(const Transaction& transaction) {
    std::string all;
    each_record_line(transaction, [&](std::string_view line) { all += line; });
    return all;
}

bool same_record(const Fence& a, const Fence& b) {
    const auto filled = [](const Fence& fence) {
        std::vector<std::pair<std::string, const Elements*>> sets;
        for (const auto& [name, set] : fence.sets) {
            if (word_of(name).empty() || set.elements.empty()) continue;
            const auto exempt = parse_exempt_set_name(name);
            sets.emplace_back(exempt ? exempt_set_name(exempt->family, exempt->length, first_capacity) : name,
                              &set.elements);
        }
        return sets;
    };
    const auto same = [](const auto& x, const auto& y) {
        const auto& [one, other] = std::pair(x.second.until, y.second.until);
        const bool ends = one == other || (one != never && other != never && std::chrono::abs(one - other) <= jitter);
        return x.first == y.first && x.second.action == y.second.action && ends;
    };
    const auto sets = filled(a), others = filled(b);
    return std::equal(sets.begin(), sets.end(), others.begin(), others.end(), [&](const auto& x, const auto& y) {
        return x.first == y.first &&
               std::equal(x.second->begin(), x.second->end(), y.second->begin(), y.second->end(), same);
    });
}

bool narrows(const Transaction& transaction) {
    return std::any_of(transaction.operations.begin(), transaction.operations.end(), [](const Operation& operation) {
        if (const auto* add = std::get_if<AddElements>(&operation)) return !parse_exempt_set_name(add->set);
        if (const auto* gone = std::get_if<DeleteSet>(&operation)) return !gone->ended.empty();
        return std::holds_alternative<DeleteElements>(operation);
    });
}

void FenceReader::read(std::string_view lines) {
    while (!lines.empty()) {
        const std::string_view line = lines.substr(0, lines.find('\n'));
        lines.remove_prefix(std::min(line.size() + 1, lines.size()));
        std::string_view rest = line;
        const std::string_view word = take_word(rest);
        if (word.size() < 2 || (word[0] != '+' && word[0] != '-')) refuse(line);
        const std::string_view kind = word.substr(1);
        const std::string_view name = take_word(rest);
        Key key;
        Set* set = nullptr;
        if (kind == "interface") {
            if (name.size() < 3 || name.front() != '"' || name.back() != '"') refuse(line);
            key = interface_key(std::string(name.substr(1, name.size() - 2)));
            set = &fence_.sets["subscriber"];
        } else {
            const Prefix prefix = Prefix::parse(name);
            key = to_key(prefix);
            if (kind != "exempt" && !shape_of(border_set(kind, prefix))) refuse(line);
            set = kind == "exempt" ? &exemptions(prefix.family(), prefix.length())
                                   : &fence_.sets[border_set(kind, prefix)];
        }
        if (word[0] == '-') {
            if (!rest.empty()) refuse(line);
            const auto gone = set->elements.find(key);
            if (gone == set->elements.end()) continue;
            if (gone->second.until != never) set->ended.insert(*gone);  // perhaps it went because it had ended
            set->elements.erase(gone);
        } else {
            set->elements.insert_or_assign(set->elements.end(), key, held_of(kind, rest));
        }
    }
}

Set& FenceReader::exemptions(Family family, uint8_t length) {
    if (!set_ || family != family_ || length != length_) {
        set_ = &fence_.sets[exempt_set_name(family, length, first_capacity)];
        family_ = family;
        length_ = length;
    }
    return *set_;
}

Fence FenceReader::fence(Instant now) && {
    Fence whole = compile({}, {}, {});
    for (auto& [name, set] : fence_.sets) {
        const auto kind = parse_exempt_set_name(name);
        if (!kind) {
            whole.sets[name].elements = std::move(set.elements);
            continue;
        }
        ExemptSet sized = *kind;
        sized.capacity = capacity_for(set.elements.size());
        set.shape = exempt_shape(sized);  // as a kernel may have it
        retire_ended(set, now);
        sized.capacity = capacity_for(set.elements.size());
        set.shape = exempt_shape(sized);
        whole.sets.erase(name);
        whole.sets[exempt_set_name(sized.family, sized.length, sized.capacity)] = std::move(set);
    }
    whole.chains = chains_with(exempt_sets_of(whole));
    return whole;
}

}  // namespace smtpfence
