// The opposite of one revision: for each object in it, from what the revision left to what it found. All objects are
// compared before the first one is written. What closes goes before what opens, so that addresses can change hands
// back; relays and pools that go are the last, as the last relay can't be removed.
//
// Two things are kept: a customer exists from his first mention, and an exemption that the revision granted is revoked
// instead of forgotten, so that an import can tell that it was taken back.

#include <fmt/format.h>

#include "subscribers/audit.hpp"
#include "subscribers/facts.hpp"
#include "subscribers/rows.hpp"
#include "subscribers/text.hpp"

namespace smtpfence {

namespace {

using nlohmann::json;

constexpr size_t most_named = 20;

// One object of a revision: what the revision found and what it left. null: did not exist.
struct Step {
    Object object{};
    std::optional<std::string> customer;
    std::optional<Prefix> prefix;
    json found, left;
};

json without_since(json facts) {
    if (facts.is_object()) facts.erase("since");
    return facts;
}
// A `since` begins anew when a row comes back.
bool same(const json& a, const json& b) { return without_since(a) == without_since(b); }

json parsed(const Row& row, int column) { return row.null(column) ? json() : json::parse(row.text(column)); }

std::string label(const Step& step) {
    if (step.object == Object::exemption) return "the exemption of customer " + quoted(step.customer.value_or(""));
    return fmt::format("{} {}", word(step.object), step.prefix ? step.prefix->text() : "");
}

class Reversal {
public:
    Reversal(Change& change, Revision revision) : change_(change), revision_(revision) {}

    int64_t run() {
        require_revision();
        each_step([&](const Step& step) { compare(step); });
        refuse_conflicts();
        each_step([&](const Step& step) { close(step); });
        each_step([&](const Step& step) { restore(step); });
        refuse_conflicts();
        each_step([&](const Step& step) { remove(step); });
        return written_;
    }

private:
    void require_revision();
    /// Newest first, each object once.
    void each_step(const std::function<void(const Step&)>&);
    void each_entry_of(const Step&, const std::function<void(const Row&)>&);
    json present(const Step&);
    bool inactive(const Step&, const json& facts) const;
    void compare(const Step&);
    void close(const Step&);
    void restore(const Step&);
    void restore_assignment(const Step&);
    void remove(const Step&);
    void add_conflict(const std::string& text);
    void refuse_conflicts() const;
    Revision last_change(const Step&);

    Change& change_;
    Revision revision_;
    std::string conflicts_;
    size_t conflict_count_ = 0;
    int64_t written_ = 0;
};

void Reversal::require_revision() {
    bool known = false;
    change_.database().query("SELECT 1 FROM revision WHERE number = $1", {revision_},
                             [&](const Row&) { known = true; });
    if (known) return;
    throw Refused(Refusal::not_found, fmt::format("no revision {}; the last one is {}, and 'audit' lists them",
                                                  revision_, current_revision(change_.database())));
}

// Columns revision, item, before; in the order of writing. The plus keeps the engine from walking the whole revision.
void Reversal::each_entry_of(const Step& step, const std::function<void(const Row&)>& each) {
    if (step.object == Object::exemption) {
        change_.database().query(
            "SELECT revision, item, before FROM change WHERE customer = $1"
            " AND object = 'exemption' AND +revision >= $2 ORDER BY revision, item",
            {optional_value(step.customer), revision_}, each);
    } else {
        change_.database().query(
            "SELECT revision, item, before FROM change WHERE first = $1 AND length = $2"
            " AND object = $3 AND +revision >= $4 ORDER BY revision, item",
            {bytes(step.prefix->first_key()), int64_t{step.prefix->length()}, word(step.object), revision_}, each);
    }
}

void Reversal::each_step(const std::function<void(const Step&)>& each) {
    change_.database().query(
        "SELECT item, object, customer, first, length, after FROM change WHERE revision = $1 AND object <> 'customer'"
        " ORDER BY item DESC",
        {revision_}, [&](const Row& row) {
            Step step;
            step.object = parse_object(row.text(1));
            step.customer = row.optional_text(2);
            if (!row.null(3)) step.prefix = Prefix::from_key(row.blob(3), row.integer(4));
            step.left = parsed(row, 5);
            int64_t last = 0;
            each_entry_of(step, [&](const Row& entry) {
                if (entry.integer(0) != revision_) return;
                if (last == 0) step.found = parsed(entry, 2);
                last = entry.integer(1);
            });
            if (last == row.integer(0) && !same(step.found, step.left)) each(step);
        });
}

json Reversal::present(const Step& step) {
    Database& database = change_.database();
    switch (step.object) {
        case Object::relay:
            return facts_or_null(find_relay(database, *step.prefix));
        case Object::pool:
            return facts_or_null(find_pool(database, *step.prefix));
        case Object::assignment:
            return facts_or_null(find_assignment(database, *step.prefix));
        case Object::exemption:
            return facts_or_null(exemption(database, *step.customer));
        case Object::customer:
            break;
    }
    return nullptr;
}

// Whether an assignment or exemption with these facts gives no right now.
bool Reversal::inactive(const Step& step, const json& facts) const {
    if (facts.is_null()) return true;
    if (step.object == Object::exemption) return !exemption_from(facts).active(change_.time());
    if (step.object != Object::assignment) return false;
    const auto until = assignment_from(facts).until;
    return until && *until <= change_.time();
}

void Reversal::compare(const Step& step) {
    const json now = present(step);
    if (same(now, step.left) || same(now, step.found)) return;
    if (inactive(step, now) && inactive(step, step.found)) return;
    const Revision last = last_change(step);
    const bool ran_out = step.object == Object::assignment && inactive(step, now) && inactive(step, step.left);
    if (ran_out && last == revision_) return;
    add_conflict(last == revision_ ? fmt::format("{} was changed outside the change log", label(step))
                                   : fmt::format("{} was changed in revision {}", label(step), last));
}

Revision Reversal::last_change(const Step& step) {
    Revision last = revision_;
    each_entry_of(step, [&](const Row& entry) { last = entry.integer(0); });
    return last;
}

void Reversal::close(const Step& step) {
    if (step.object != Object::assignment && step.object != Object::exemption) return;
    const json now = present(step);
    if (inactive(step, now) || same(now, step.found)) return;
    if (step.object == Object::exemption) {
        if (!step.found.is_null()) return;
        revoke_exemption(change_, *step.customer, fmt::format("revert of revision {}", revision_));
        ++written_;
    } else if (step.found.is_null() || assignment_from(step.found).customer != assignment_from(now).customer) {
        release(change_, *step.prefix);
        if (inactive(step, step.found)) ++written_;
    }
}

void Reversal::restore(const Step& step) {
    if (step.found.is_null() || same(present(step), step.found)) return;
    switch (step.object) {
        case Object::relay:
            put(change_, find_relay(change_.database(), *step.prefix), relay_from(step.found));
            break;
        case Object::pool:
            put(change_, find_pool(change_.database(), *step.prefix), pool_from(step.found));
            break;
        case Object::assignment:
            return restore_assignment(step);
        case Object::exemption:
            if (inactive(step, step.found) && inactive(step, present(step))) return;
            put(change_, exemption(change_.database(), *step.customer), exemption_from(step.found));
            break;
        case Object::customer:
            return;
    }
    ++written_;
}

void Reversal::restore_assignment(const Step& step) {
    if (inactive(step, step.found)) return;
    const Assignment found = assignment_from(step.found);
    if (const auto other = held_by_other(change_.database(), found.prefix, found.customer, change_.time())) {
        add_conflict(fmt::format("{} can't go back to customer {} because customer {} holds {}", label(step),
                                 quoted(found.customer), quoted(other->customer), other->prefix.text()));
        return;
    }
    auto before = find_assignment(change_.database(), found.prefix);
    if (before && inactive(step, facts(*before))) before.reset();
    put(change_, before, found);
    ++written_;
}

void Reversal::remove(const Step& step) {
    if (!step.found.is_null()) return;
    bool removed = false;
    if (step.object == Object::relay) removed = remove_relay(change_, *step.prefix);
    if (step.object == Object::pool) removed = remove_pool(change_, *step.prefix);
    if (removed) ++written_;
}

void Reversal::add_conflict(const std::string& text) {
    if (++conflict_count_ > most_named) return;
    conflicts_ += (conflicts_.empty() ? "" : ", ") + text;
}

void Reversal::refuse_conflicts() const {
    if (conflict_count_ == 0) return;
    const std::string more =
        conflict_count_ > most_named ? fmt::format(" and {} more", conflict_count_ - most_named) : "";
    throw Refused(Refusal::conflict, fmt::format("revision {} can't be reverted: {}{}; change these by hand, or revert "
                                                 "what came later first",
                                                 revision_, conflicts_, more));
}

}  // namespace

int64_t revert(Change& change, Revision revision) { return Reversal(change, revision).run(); }

}  // namespace smtpfence
