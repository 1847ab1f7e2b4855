#include "rules/element_changes.hpp"

#include <algorithm>

namespace smtpfence {

namespace {

/// Elements of one transaction: few enough that the kernel's commit lock is held for milliseconds only.
constexpr size_t chunk_size = 10'000;

Seconds tolerance(const Held& want, Instant now) {
    return want.until == never ? Seconds{0} : std::max(jitter, (want.until - now) / 1000);
}

ElementList take_chunk(ElementList& from) {
    ElementList chunk;
    for (; !from.empty() && chunk.size() < chunk_size; from.pop_front()) chunk.push_back(from.front());
    return chunk;
}

}  // namespace

/// A right that ends a little early in the kernel may stay so; one that would end late may not.
bool same(const Held& have, const Held& want, Seconds tolerance) {
    if (have.action != want.action) return false;
    if (have.until == want.until) return true;
    if (have.until == never || want.until == never) return false;
    return have.until < want.until ? want.until - have.until <= tolerance : have.until - want.until <= jitter;
}

bool may_stay(const Held& have, const Held& want, Instant now) {
    return !over(have, now) && !over(want, now) && same(have, want, tolerance(want, now));
}

ElementChanges compare(const Elements& have, Elements want, Instant now) {
    constexpr int piece = 512;
    ElementChanges changes;
    auto h = have.begin();
    auto w = want.begin();
    int walked = 0;
    const auto next_wanted = [&] {
        ++w;
        if (++walked % piece == 0) w = want.erase(want.begin(), w);
    };
    while (h != have.end() || w != want.end()) {
        if (w == want.end() || (h != have.end() && h->first < w->first)) {
            if (!over(h->second, now)) changes.ended.push_back(*h);
            ++h;
        } else if (h == have.end() || w->first < h->first) {
            if (!over(w->second, now)) changes.added.push_back(*w);
            next_wanted();
        } else {
            if (over(w->second, now)) {
                if (!over(h->second, now)) changes.ended.push_back(*h);
            } else if (!may_stay(h->second, w->second, now)) {
                changes.change(h->first, h->second, w->second);
            }
            ++h;
            next_wanted();
        }
    }
    return changes;
}

ElementList next_chunk(Elements& from, Elements::iterator& at, Instant now) {
    ElementList chunk;
    while (at != from.end() && chunk.size() < chunk_size) {
        if (over(at->second, now)) {
            at = from.erase(at);
        } else {
            chunk.push_back(*at++);
        }
    }
    return chunk;
}

void append_elements(std::vector<Operation>& to, const std::string& set, ElementList removed, ElementList added) {
    if (!removed.empty()) to.emplace_back(DeleteElements{set, std::move(removed)});
    if (!added.empty()) to.emplace_back(AddElements{set, std::move(added)});
}

void append_chunks(std::vector<Transaction>& to, const std::string& set, ElementList removed, ElementList added) {
    while (!removed.empty() || !added.empty()) {
        Transaction transaction;
        append_elements(transaction.operations, set, take_chunk(removed), take_chunk(added));
        to.push_back(std::move(transaction));
    }
}

void append_narrowing(std::vector<Transaction>& to, const std::string& set, ElementChanges& changes) {
    append_chunks(to, set, std::move(changes.ended), {});
    append_chunks(to, set, std::move(changes.shortened_from), std::move(changes.shortened_to));
}
void append_widening(std::vector<Transaction>& to, const std::string& set, ElementChanges& changes) {
    append_chunks(to, set, std::move(changes.changed_from), std::move(changes.changed_to));
    append_chunks(to, set, {}, std::move(changes.added));
}

}  // namespace smtpfence
