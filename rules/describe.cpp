// The lines of a plan: what each change does, in words.

#include "rules/difference.hpp"

namespace smtpfence {

namespace {

std::string held_text(const Key& key, const SetShape& shape, const Held& held) {
    std::string words = text(key, shape.key);
    if (held.action) words += std::string(" ") + word(*held.action);
    if (held.until != never) words += " until " + format_instant(held.until);
    return words;
}

/// Knows the shape of every set that the changes mention.
struct Describer {
    std::map<std::string, SetShape> shapes;
    std::vector<ChangeLine> lines;

    void elements(const char* verb, const std::string& set, const ElementList& elements) {
        const SetShape& shape = shapes[set];
        for (const auto& [key, held] : elements) {
            ChangeLine line{verb, "element", set, held_text(key, shape, held), {}};
            if (shape.key != KeyKind::interface) line.prefix = to_prefix(key, shape.key);
            lines.push_back(std::move(line));
        }
    }
    void object(const char* verb, const char* what, const std::string& name) {
        lines.push_back({verb, what, name, "", {}});
    }

    void operator()(const AddSet& add) {
        shapes[add.name] = add.shape;
        object("add", "set", add.name);
    }
    void operator()(const AddChain& add) { object("add", "chain", add.name); }
    void operator()(const AddElements& add) { elements("add", add.set, add.elements); }
    void operator()(const DeleteElements& remove) { elements("delete", remove.set, remove.elements); }
    void operator()(const ReplaceRules& replace) {
        lines.push_back({"replace", "rules", replace.chain, std::to_string(replace.rules.size()) + " rules", {}});
    }
    void operator()(const DeleteChain& remove) { object("delete", "chain", remove.name); }
    void operator()(const DeleteSet& remove) { object("delete", "set", remove.name); }
};

}  // namespace

std::vector<ChangeLine> describe(const Fence& actual, const Changes& changes) {
    Describer describer;
    for (const auto& [name, set] : actual.sets) describer.shapes[name] = set.shape;
    for (const Transaction& transaction : changes.transactions) {
        for (const Operation& operation : transaction.operations) std::visit(describer, operation);
    }
    return std::move(describer.lines);
}

}  // namespace smtpfence
