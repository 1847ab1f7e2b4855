#pragma once
// One set's part of a difference: what happens to its elements, and how that is cut into transactions.

#include "rules/difference.hpp"

namespace smtpfence {

inline bool over(const Held& held, Instant now) { return held.until <= now; }

/// The same action, and the same end to `jitter`; one that is held may be sooner by `tolerance`.
bool same(const Held& have, const Held& want, Seconds tolerance);

/// What has to happen to one set's elements. A changed element is removed and added within one transaction.
struct ElementChanges {
    ElementList ended, shortened_from, shortened_to;  // narrowing
    ElementList added, changed_from, changed_to;      // widening, and other actions

    void change(const Key& key, const Held& have, const Held& want) {
        const bool shorter = want.until < have.until;
        (shorter ? shortened_from : changed_from).emplace_back(key, have);
        (shorter ? shortened_to : changed_to).emplace_back(key, want);
    }
};

/// Lets go of what it has compared, a piece at a time.
ElementChanges compare(const Elements& have, Elements want, Instant now);

/// The next elements of one transaction, from `at` on; what is over goes from `from`.
ElementList next_chunk(Elements& from, Elements::iterator& at, Instant now);

/// To one transaction.
void append_elements(std::vector<Operation>& to, const std::string& set, ElementList removed, ElementList added);

/// In transactions of at most 10,000 of each. Elements that are removed and added again stay in one.
void append_chunks(std::vector<Transaction>& to, const std::string& set, ElementList removed, ElementList added);
void append_narrowing(std::vector<Transaction>& to, const std::string& set, ElementChanges&);
void append_widening(std::vector<Transaction>& to, const std::string& set, ElementChanges&);

}  // namespace smtpfence
