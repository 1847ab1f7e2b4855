// A transaction performed on the value, with the refusals that the kernel would have.

#include <cerrno>
#include <set>

#include "rules/kernel.hpp"
#include "rules/layout.hpp"
#include "rules/rule_code.hpp"

namespace smtpfence {

namespace {

[[noreturn]] void refuse(int code, const std::string& object, const std::string& why) {
    throw KernelError(code, object, object + ": " + why);
}

Set& existing_set(Fence& fence, const std::string& name) {
    const auto found = fence.sets.find(name);
    if (found == fence.sets.end()) refuse(ENOENT, "set " + name, "there is no such set; compare again");
    return found->second;
}

Chain& existing_chain(Fence& fence, const std::string& name) {
    const auto found = fence.chains.find(name);
    if (found == fence.chains.end()) refuse(ENOENT, "chain " + name, "there is no such chain; compare again");
    return found->second;
}

std::string element_name(const std::string& set, const SetShape& shape, const Key& key) {
    return "element " + text(key, shape.key) + " of set " + set;
}

bool overlaps(const Elements& elements, const Key& key) {
    const auto next = elements.lower_bound(key);
    if (next != elements.end() && covers(key, next->first)) return true;
    if (next == elements.begin()) return false;
    const Key& previous = std::prev(next)->first;
    return covers(previous, key) || covers(key, previous);
}

void add_element(Fence& fence, const std::string& name, Set& set, const Key& key, const Held& held) {
    const auto object = [&] { return element_name(name, set.shape, key); };
    if (held.action && !action_chain(*held.action).empty() && !fence.chains.contains(action_chain(*held.action))) {
        refuse(ENOENT, object(), "its chain " + action_chain(*held.action) + " does not exist");
    }
    const auto same = set.elements.lower_bound(key);
    if (same != set.elements.end() && same->first == key) {
        if (same->second.action != held.action) refuse(EEXIST, object(), "it exists with another action");
        same->second.until = held.until;
        return;
    }
    if (set.shape.interval && overlaps(set.elements, key)) refuse(EEXIST, object(), "it overlaps another element");
    if (set.shape.size != 0 && set.elements.size() >= set.shape.size) {
        refuse(ENFILE, object(), "the set is full at " + std::to_string(set.shape.size));
    }
    set.elements.emplace_hint(same, key, held);
}

/// Whether a rule, or a verdict, still refers to the object.
bool in_use(const Fence& fence, const std::string& name, std::vector<std::string> Mentions::*kind) {
    for (const auto& entry : fence.chains) {
        for (const Rule& rule : entry.second.rules) {
            const Mentions mentioned = mentions(rule.code);
            for (const std::string& other : mentioned.*kind) {
                if (other == name) return true;
            }
        }
    }
    return false;
}

bool is_verdict(const Fence& fence, const std::string& chain) {
    for (const auto& entry : fence.sets) {
        if (!entry.second.shape.verdicts) continue;
        for (const auto& element : entry.second.elements) {
            if (element.second.action && action_chain(*element.second.action) == chain) return true;
        }
    }
    return false;
}

void check_mentions(const Fence& fence, const std::string& chain, const Rule& rule) {
    const Mentions mentioned = mentions(rule.code);
    for (const std::string& set : mentioned.sets) {
        if (!fence.sets.contains(set)) refuse(ENOENT, "rules of chain " + chain, "set " + set + " does not exist");
    }
    for (const std::string& other : mentioned.chains) {
        if (!fence.chains.contains(other))
            refuse(ENOENT, "rules of chain " + chain, "chain " + other + " does not exist");
    }
}

struct Performer {
    Fence& fence;

    void operator()(const AddSet& add) const {
        const auto [set, added] = fence.sets.try_emplace(add.name);
        if (added) {
            set->second.shape = add.shape;
        } else if (set->second.shape != add.shape) {
            refuse(EEXIST, "set " + add.name, "it exists with another shape");
        }
    }
    void operator()(const AddChain& add) const {
        const auto [chain, added] = fence.chains.try_emplace(add.name);
        if (added) {
            chain->second.hook = add.hook;
        } else if (chain->second.hook != add.hook) {
            refuse(EEXIST, "chain " + add.name, "it exists with another hook");
        }
    }
    void operator()(const AddElements& add) const {
        Set& set = existing_set(fence, add.set);
        for (const auto& [key, held] : add.elements) add_element(fence, add.set, set, key, held);
    }
    void operator()(const DeleteElements& remove) const {
        Elements& elements = existing_set(fence, remove.set).elements;
        auto next = elements.end();  // where many go, they stand one behind the other
        for (const auto& [key, held] : remove.elements) {
            if (next == elements.end() || next->first != key) next = elements.find(key);
            if (next != elements.end()) next = elements.erase(next);
        }
    }
    void operator()(const ReplaceRules& replace) const {
        Chain& chain = existing_chain(fence, replace.chain);
        for (const Rule& rule : replace.rules) check_mentions(fence, replace.chain, rule);
        chain.rules = replace.rules;
    }
    void operator()(const DeleteChain& remove) const {
        existing_chain(fence, remove.name);
        if (in_use(fence, remove.name, &Mentions::chains) || is_verdict(fence, remove.name)) {
            refuse(EBUSY, "chain " + remove.name, "a rule or a verdict still goes to it");
        }
        fence.chains.erase(remove.name);
    }
    void operator()(const DeleteSet& remove) const {
        existing_set(fence, remove.name);
        if (in_use(fence, remove.name, &Mentions::sets))
            refuse(EBUSY, "set " + remove.name, "a rule still looks into it");
        fence.sets.erase(remove.name);
    }
};

}  // namespace

void perform(Fence& fence, const Transaction& transaction) {
    for (const Operation& operation : transaction.operations) std::visit(Performer{fence}, operation);
}

}  // namespace smtpfence
