#include "rules/fence_record.hpp"

#include <algorithm>
#include <charconv>

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

void append_key(std::string& to, char sign, const std::string& set, const Key& key) {
    const std::string_view word = word_of(set);
    to += sign;
    to += word;
    to += ' ';
    to += word == "interface" ? text(key, KeyKind::interface) : to_prefix(key, shape_of(set)->key).text();
}

void append_added(std::string& to, const std::string& set, const Key& key, const Held& held) {
    append_key(to, '+', set, key);
    if (held.action) {
        to += ' ';
        to += word(*held.action);
    } else if (word_of(set) == "exempt") {
        to += ' ';
        to += held.until == never ? std::string("never") : std::to_string(to_number(held.until));
    }
    to += '\n';
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

std::string set_of(std::string_view kind, const Prefix& prefix) {
    if (kind == "exempt") return exempt_set_name(prefix.family(), prefix.length(), first_capacity);
    return std::string(kind) + (prefix.family() == Family::v4 ? "4" : "6");
}

}  // namespace

void each_record_line(const Fence& fence, const std::function<void(std::string_view)>& line) {
    std::string words;
    for (const auto& [name, set] : fence.sets) {
        if (word_of(name).empty() || !shape_of(name)) continue;
        for (const auto& [key, held] : set.elements) {
            words.clear();
            append_added(words, name, key, held);
            line(words);
        }
    }
}

std::string record_lines(const Transaction& transaction) {
    std::string lines;
    for (const Operation& operation : transaction.operations) {
        if (const auto* add = std::get_if<AddElements>(&operation)) {
            for (const auto& [key, held] : add->elements) append_added(lines, add->set, key, held);
        } else if (const auto* remove = std::get_if<DeleteElements>(&operation)) {
            if (!shape_of(remove->set)) continue;  // a leftover that was never ours
            for (const auto& element : remove->elements) {
                append_key(lines, '-', remove->set, element.first);
                lines += '\n';
            }
        }
    }
    return lines;
}

bool narrows(const Transaction& transaction) {
    return std::any_of(transaction.operations.begin(), transaction.operations.end(), [](const Operation& operation) {
        if (const auto* add = std::get_if<AddElements>(&operation)) return !parse_exempt_set_name(add->set);
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
        std::string set = "subscriber";
        if (kind == "interface") {
            if (name.size() < 3 || name.front() != '"' || name.back() != '"') refuse(line);
            key = interface_key(std::string(name.substr(1, name.size() - 2)));
        } else {
            const Prefix prefix = Prefix::parse(name);
            key = to_key(prefix);
            set = set_of(kind, prefix);
            if (!shape_of(set)) refuse(line);
        }
        auto& elements = fence_.sets[set].elements;
        if (word[0] == '-') {
            if (!rest.empty()) refuse(line);
            elements.erase(key);
        } else {
            elements.insert_or_assign(key, held_of(kind, rest));
        }
    }
}

Fence FenceReader::fence(Instant now) && {
    std::vector<ExemptSet> exempt;
    Fence whole = compile({}, {}, {});
    for (auto& [name, set] : fence_.sets) {
        const auto kind = parse_exempt_set_name(name);
        if (!kind) {
            whole.sets[name].elements = std::move(set.elements);
            continue;
        }
        for (auto element = set.elements.begin(); element != set.elements.end();) {
            element = element->second.until <= now ? set.elements.erase(element) : std::next(element);
        }
        ExemptSet sized = *kind;
        sized.capacity = capacity_for(set.elements.size());
        whole.sets.erase(name);
        Set& filled = whole.sets[exempt_set_name(sized.family, sized.length, sized.capacity)];
        filled.shape = exempt_shape(sized);
        filled.elements = std::move(set.elements);
    }
    for (const auto& entry : whole.sets) {
        if (const auto kind = parse_exempt_set_name(entry.first)) exempt.push_back(*kind);
    }
    whole.chains = chains_with(std::move(exempt));
    return whole;
}

}  // namespace smtpfence
