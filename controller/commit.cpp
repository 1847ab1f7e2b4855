// Enforcement's way into the kernel: transactions, one behind the other.

#include <algorithm>
#include <cerrno>
#include <future>
#include <utility>

#include "controller/enforcement.hpp"
#include "rules/element_changes.hpp"
#include "rules/fence_record.hpp"
#include "rules/layout.hpp"

namespace smtpfence {

namespace {

/// How often something is worked out anew because others commit all the time.
constexpr int most_restarts = 3;

/// Whether the kernel refused because the table isn't what we took it for, or may have taken what we don't know of.
bool may_be_astray(int code) { return code != ENFILE && code != ENOMEM && code != EMSGSIZE; }

/// Whether it changes relays or pools.
bool moves_border(const Transaction& transaction) {
    return std::any_of(transaction.operations.begin(), transaction.operations.end(), [](const Operation& operation) {
        const auto* add = std::get_if<AddElements>(&operation);
        const auto* remove = std::get_if<DeleteElements>(&operation);
        return (add && !parse_exempt_set_name(add->set)) || (remove && !parse_exempt_set_name(remove->set));
    });
}

}  // namespace

Pass Enforcement::commit(Changes changes, bool noted) {
    Pass pass;
    pass.changes = changes.size();
    for (Transaction& transaction : changes.transactions) {
        send(transaction);
        if (moves_border(transaction)) space_.reset();
        perform(applied_, transaction);
        note(transaction, noted);
        ++pass.transactions;
        transaction = {};
    }
    return pass;
}

/// The elements of a set that is empty. They become the mirror's as they are, instead of one by one. While the kernel
/// takes a chunk, a thread notes the one before and cuts the next.
void Enforcement::fill(const std::string& set, Elements elements, Instant now, bool noted, Pass& pass) {
    Elements& mirror = applied_.sets.at(set).elements;
    auto at = elements.begin();
    const auto cut = [&] { return Transaction{{AddElements{set, next_chunk(elements, at, now)}}}; };
    Transaction sent;
    for (Transaction chunk = cut(); elements_in(chunk) > 0;) {
        auto next = std::async(std::launch::async | std::launch::deferred, [&] {
            if (!sent.operations.empty()) note(sent, noted);
            return cut();
        });
        try {
            send(chunk);
        } catch (...) {
            next.wait();
            const AddElements& refused = std::get<AddElements>(chunk.operations.front());
            elements.erase(elements.lower_bound(refused.elements.front().first), elements.end());
            mirror = std::move(elements);
            throw;
        }
        pass.changes += elements_in(chunk);
        ++pass.transactions;
        Transaction following = next.get();
        sent = std::exchange(chunk, std::move(following));
    }
    if (!sent.operations.empty()) note(sent, noted);
    mirror = std::move(elements);
}

/// Where others can write to the table, the kernel refuses what was worked out before they did. What they did
/// elsewhere is no reason to; and what narrows goes in any case.
void Enforcement::send(const Transaction& transaction) {
    for (int attempt = 0;; ++attempt) {
        const bool checked = !kernel_.owned() &&
                             !(attempt > 0 && narrows(transaction) && (!touched_.nothing() || attempt > most_restarts));
        const uint32_t before = kernel_.generation();
        try {
            if (!kernel_.commit(transaction, checked ? std::optional(generation_) : std::nullopt)) return;
        } catch (const KernelError& error) {
            if (error.code == ERESTART) {
                touched_ = hear();
                if (narrows(transaction) || (touched_.nothing() && attempt < most_restarts)) continue;
                throw;
            }
            compare_all_ = true;
            if (may_be_astray(error.code)) touched_.everything = true;
            throw;
        }
        if (checked && kernel_.generation() != generation_) ++generation_;
        if (!checked) account_for(before);
        return;
    }
}

/// An unchecked commit of ours since the kernel's number `before`. Where somebody else committed around it, generation_
/// is left behind, and verify() looks closer.
void Enforcement::account_for(uint32_t before) {
    const uint32_t after = kernel_.generation();
    if (before == generation_ && after - before <= 1) generation_ = after;
}

void Enforcement::note(const Transaction& transaction, bool noted) {
    for (const Operation& operation : transaction.operations) {
        const auto* added = std::get_if<AddElements>(&operation);
        if (!added) continue;
        for (const auto& [key, held] : added->elements) next_end_ = std::min<Instant>(next_end_, held.until);
    }
    if (noted && note_) note_(transaction);
}

}  // namespace smtpfence
