// The table in nft's own language, laid out as `nft list table` does it, so that the two can be compared as text.

#include <fmt/format.h>

#include "rules/difference.hpp"
#include "rules/layout.hpp"

namespace smtpfence {

namespace {

constexpr const char* next_line = ",\n\t\t\t     ";

const char* key_word(KeyKind kind) {
    switch (kind) {
        case KeyKind::ipv4:
            return "ipv4_addr";
        case KeyKind::ipv6:
            return "ipv6_addr";
        case KeyKind::interface:
            break;
    }
    return "ifname";
}

/// nft's form of a duration: "1h", "29d23h59m30s".
std::string nft_duration(Seconds duration) {
    int64_t rest = duration.count();
    std::string words;
    for (const auto& [unit, seconds] : {std::pair{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}}) {
        if (rest / seconds != 0) words += fmt::format("{}{}", rest / seconds, unit);
        rest %= seconds;
    }
    return words;
}

std::vector<std::string> shape_lines(const SetShape& shape) {
    std::vector<std::string> lines = {std::string("type ") + key_word(shape.key) +
                                      (shape.verdicts ? " : verdict" : "")};
    if (shape.size != 0) lines.push_back(fmt::format("size {}", shape.size));
    std::string flags;
    const auto flag = [&](bool set, const char* name) {
        if (set) flags += (flags.empty() ? "flags " : ",") + std::string(name);
    };
    flag(shape.interval, "interval");
    flag(shape.dynamic, "dynamic");
    flag(shape.timeouts, "timeout");
    if (!flags.empty()) lines.push_back(flags);
    if (shape.dynamic) lines.emplace_back("counter");
    if (shape.timeout != Seconds{0}) lines.push_back("timeout " + nft_duration(shape.timeout));
    if (const Seconds every = collected_every(shape); every != collected_by_default)
        lines.push_back("gc-interval " + nft_duration(every));
    return lines;
}

std::string element_text(const SetShape& shape, Key key, const Held& held, Instant now) {
    if (!shape.interval) key.length = shape.key == KeyKind::ipv4 ? 32 : 128;
    std::string words = text(key, shape.key);
    // A timeout of zero would mean that the element never ends.
    if (held.until != never) words += " timeout " + nft_duration(std::max(held.until - now, Seconds{1}));
    if (held.action) words += " : " + verdict_text(*held.action);
    return words;
}

template <typename Listed>
std::string element_list(const SetShape& shape, const Listed& elements, Instant now, const char* separator) {
    const size_t in_a_line = shape.key == KeyKind::ipv4 ? 2 : 1;
    std::string words;
    size_t written = 0;
    for (const auto& [key, held] : elements) {
        if (written != 0) words += written % in_a_line == 0 ? separator : ", ";
        words += element_text(shape, key, held, now);
        ++written;
    }
    return words;
}

std::string hook_text(const Hook& hook) {
    static constexpr std::array names = {"prerouting", "input", "forward", "output", "postrouting"};
    std::string priority = hook.priority == 0
                               ? "filter"
                               : fmt::format("filter {} {}", hook.priority < 0 ? '-' : '+', std::abs(hook.priority));
    return fmt::format("type filter hook {} priority {}; policy {};", names.at(hook.hook), priority,
                       hook.drop ? "drop" : "accept");
}

std::string rule_text(const Rule& rule) {
    if (rule.nft.empty()) return "# a rule that is not smtpfence's";
    return rule.comment.empty() ? rule.nft : rule.nft + " comment \"" + rule.comment + '"';
}

std::string set_text(const std::string& name, const Set& set, Instant now) {
    std::string words = fmt::format("\t{} {} {{\n", set.shape.verdicts ? "map" : "set", name);
    for (const std::string& line : shape_lines(set.shape)) words += "\t\t" + line + "\n";
    if (!set.elements.empty())
        words += "\t\telements = { " + element_list(set.shape, set.elements, now, next_line) + " }\n";
    return words + "\t}\n";
}

std::string chain_text(const std::string& name, const Chain& chain) {
    std::string words = "\tchain " + name + " {\n";
    if (chain.hook) words += "\t\t" + hook_text(*chain.hook) + "\n";
    for (const Rule& rule : chain.rules) words += "\t\t" + rule_text(rule) + "\n";
    return words + "\t}\n";
}

/// One command for each operation.
struct Script {
    Instant now;
    std::string words;
    std::map<std::string, SetShape> shapes;
    Elements interfaces;  ///< what the map of interfaces holds at this point

    std::string of_table(const std::string& name) const { return std::string(table_name) + " " + name; }

    void elements(const char* verb, const std::string& set, const ElementList& elements) {
        words += fmt::format("{} element inet {} {{ {} }}\n", verb, of_table(set),
                             element_list(shapes[set], elements, now, ",\n\t"));
    }

    /// nft 1.0.6 finds no "vlan*" to delete, so that the map is emptied and filled with what remains.
    void delete_interfaces(const DeleteElements& remove) {
        for (const auto& element : remove.elements) interfaces.erase(element.first);
        words += "flush map inet " + of_table(remove.set) + "\n";
        if (!interfaces.empty()) elements("add", remove.set, {interfaces.begin(), interfaces.end()});
    }

    void operator()(const AddSet& add) {
        shapes[add.name] = add.shape;
        std::string lines;
        for (const std::string& line : shape_lines(add.shape)) lines += line + "; ";
        words += fmt::format("add {} inet {} {{ {}}}\n", add.shape.verdicts ? "map" : "set", of_table(add.name), lines);
    }
    void operator()(const AddChain& add) {
        words += "add chain inet " + of_table(add.name) + (add.hook ? " { " + hook_text(*add.hook) + " }\n" : "\n");
    }
    void operator()(const AddElements& add) {
        elements("add", add.set, add.elements);
        if (shapes[add.set].key == KeyKind::interface) interfaces.insert(add.elements.begin(), add.elements.end());
    }
    void operator()(const DeleteElements& remove) {
        if (shapes[remove.set].key == KeyKind::interface) return delete_interfaces(remove);
        auto plain = remove.elements;
        for (auto& element : plain) element.second.until = never;  // nft takes no timeout here
        elements("delete", remove.set, plain);
    }
    void operator()(const ReplaceRules& replace) {
        words += "flush chain inet " + of_table(replace.chain) + "\n";
        for (const Rule& rule : replace.rules)
            words += "add rule inet " + of_table(replace.chain) + " " + rule_text(rule) + "\n";
    }
    void operator()(const DeleteChain& remove) { words += "delete chain inet " + of_table(remove.name) + "\n"; }
    void operator()(const DeleteSet& remove) {
        words +=
            fmt::format("delete {} inet {}\n", shapes[remove.name].verdicts ? "map" : "set", of_table(remove.name));
    }
};

}  // namespace

std::string nft_text(const Fence& fence, Instant now) {
    if (fence.empty()) return "";
    std::string words = fmt::format("table inet {} {{\n\tcomment \"{}\"\n", table_name, table_comment);
    bool first = true;
    const auto separate = [&] {
        if (!first) words += "\n";
        first = false;
    };
    for (const auto* set : in_reading_order(fence.sets)) separate(), words += set_text(set->first, set->second, now);
    for (const auto* chain : in_reading_order(fence.chains))
        separate(), words += chain_text(chain->first, chain->second);
    return words + "}\n";
}

std::string nft_script(const Fence& actual, const Changes& changes, Instant now) {
    Script script{now, {}, {}, {}};
    for (const auto& [name, set] : actual.sets) {
        script.shapes[name] = set.shape;
        if (set.shape.key == KeyKind::interface) script.interfaces = set.elements;
    }
    if (actual.empty() && !changes.empty()) {
        script.words = fmt::format("add table inet {} {{ comment \"{}\"; }}\n", table_name, table_comment);
    }
    for (const Transaction& transaction : changes.transactions) {
        for (const Operation& operation : transaction.operations) std::visit(script, operation);
    }
    return std::move(script.words);
}

}  // namespace smtpfence
