// Who holds which prefix: the part of customer.hpp that keeps two customers from holding the same address.

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "subscribers/customer.hpp"
#include "subscribers/facts.hpp"
#include "subscribers/rows.hpp"

namespace smtpfence {

namespace {

/// Every length that assignments of the family have or had, longest first.
std::vector<uint8_t> lengths_in_use(Database& database, Family family) {
    std::vector<uint8_t> result;
    database.query("SELECT length FROM assignment_length WHERE family = $1 ORDER BY length DESC",
                   {static_cast<int64_t>(family)},
                   [&](const Row& row) { result.push_back(static_cast<uint8_t>(row.integer(0))); });
    return result;
}

/// Rows that contain `prefix` or lie inside it, also those that are over.
std::vector<Assignment> overlapping(Database& database, const Prefix& prefix, const std::vector<uint8_t>& lengths) {
    std::vector<Assignment> result;
    for (uint8_t length : lengths) {
        if (length >= prefix.length()) continue;
        database.query(
            "SELECT first, length, customer, since, until, source FROM assignment WHERE first = $1 AND length = $2",
            {first_of(prefix.widened(length)), int64_t{length}},
            [&](const Row& row) { result.push_back(assignment_of(row)); });
    }
    // Wider ones that begin with the same address were found above.
    database.query(
        "SELECT first, length, customer, since, until, source FROM assignment"
        " WHERE first BETWEEN $1 AND $2 AND length >= $3 ORDER BY first, length",
        {first_of(prefix), bytes(prefix.last_key()), length_of(prefix)},
        [&](const Row& row) { result.push_back(assignment_of(row)); });
    return result;
}

/// Moves a row to history.
void end_assignment(Change& change, const Assignment& assignment, Instant ended) {
    change.database().query("DELETE FROM assignment WHERE first = $1 AND length = $2",
                            {first_of(assignment.prefix), length_of(assignment.prefix)});
    change.database().query(
        "INSERT INTO past_assignment (first, length, customer, since, until, ended, source)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        {first_of(assignment.prefix), length_of(assignment.prefix), assignment.customer, to_number(assignment.since),
         optional_value(assignment.until), to_number(ended), assignment.source});
}

void insert_assignment(Change& change, const Assignment& assignment, const std::vector<uint8_t>& lengths) {
    const Prefix& prefix = assignment.prefix;
    mention_customer(change, assignment.customer);
    if (std::find(lengths.begin(), lengths.end(), prefix.length()) == lengths.end()) {
        change.database().query("INSERT INTO assignment_length (family, length) VALUES ($1, $2)",
                                {static_cast<int64_t>(prefix.family()), length_of(prefix)});
    }
    change.database().query(
        "INSERT INTO assignment (first, length, customer, since, until, source) VALUES ($1, $2, $3, $4, $5, $6)",
        {first_of(prefix), length_of(prefix), assignment.customer, to_number(assignment.since),
         optional_value(assignment.until), assignment.source});
    change.record(Object::assignment, assignment.customer, prefix, nullptr, facts(assignment));
}

bool move_until(Change& change, const Assignment& old, std::optional<Instant> until) {
    if (!until || until == old.until) return false;
    Assignment moved = old;
    moved.until = until;
    moved.source = change.source();
    change.database().query("UPDATE assignment SET until = $3, source = $4 WHERE first = $1 AND length = $2",
                            {first_of(old.prefix), length_of(old.prefix), optional_value(until), moved.source});
    change.record(Object::assignment, old.customer, old.prefix, facts(old), facts(moved));
    return true;
}

[[noreturn]] void refuse_held(const Prefix& wanted, const Assignment& held) {
    const std::string until = held.until ? " until " + format_instant(*held.until) : "";
    if (wanted.contains(held.prefix)) {
        throw Refused(Refusal::conflict,
                      fmt::format("{} is held by customer {}{}: --take ends that, or 'release {}' first",
                                  held.prefix.text(), quoted(held.customer), until, held.prefix.text()));
    }
    throw Refused(Refusal::conflict,
                  fmt::format("{} lies inside {}, which is held by customer {}{} and is never split, not with --take "
                              "either: 'release {}' first",
                              wanted.text(), held.prefix.text(), quoted(held.customer), until, held.prefix.text()));
}

}  // namespace

Assigned assign(Change& change, std::string_view customer, const Prefix& prefix, std::optional<Instant> until,
                bool take) {
    check_customer_id(customer);
    if (prefix.length() == 0) {
        throw Refused(Refusal::invalid,
                      fmt::format("{} is a default route: nobody holds the whole Internet", prefix.text()));
    }
    if (until && *until <= change.time()) {
        throw Refused(Refusal::invalid, fmt::format("{} for customer {}: its end, {}, is not in the future",
                                                    prefix.text(), quoted(customer), format_instant(*until)));
    }
    const std::vector<uint8_t> lengths = lengths_in_use(change.database(), prefix.family());
    const std::vector<Assignment> met = overlapping(change.database(), prefix, lengths);
    std::optional<Assignment> same;
    for (const Assignment& held : met) {  // everything is checked before anything is written
        if (!held.holds(change.time())) continue;
        if (held.customer == customer) {
            if (held.prefix == prefix) same = held;
        } else if (!take || !prefix.contains(held.prefix)) {
            refuse_held(prefix, held);
        }
    }
    Assigned result;
    for (const Assignment& held : met) {
        if (!held.holds(change.time())) {
            end_assignment(change, held, *held.until);
        } else if (held.customer != customer) {
            end_assignment(change, held, change.time());
            change.record(Object::assignment, held.customer, held.prefix, facts(held), nullptr);
            result.taken.push_back(held);
        }
    }
    if (same) {
        result.changed = move_until(change, *same, until);
    } else {
        insert_assignment(change, {prefix, std::string(customer), change.time(), until, change.source(), {}}, lengths);
        result.added = true;
    }
    return result;
}

std::optional<Assignment> release(Change& change, const Prefix& prefix) {
    std::optional<Assignment> held = find_assignment(change.database(), prefix);
    if (!held) return {};
    // One that is over may be so by a wrong clock only.
    end_assignment(change, *held, held->holds(change.time()) ? change.time() : *held->until);
    change.record(Object::assignment, held->customer, prefix, facts(*held), nullptr);
    return held;
}

namespace {

/// Whether history can hold anything about `at`. Mostly it can't, as `at` is now.
bool ended_after(Database& database, Instant at) {
    bool found = false;
    database.query("SELECT 1 FROM past_assignment WHERE ended > $1 LIMIT 1", {to_number(at)},
                   [&](const Row&) { found = true; });
    return found;
}

/// The query for what held at $1: `where` narrows both tables.
std::string holding_at(std::string_view where, bool with_past, std::string_view limit = "") {
    std::string sql = fmt::format(
        "SELECT first, length, customer, since, until, source, NULL AS ended FROM assignment"
        " WHERE since <= $1 AND (until IS NULL OR until > $1){}",
        where);
    if (with_past) {
        // The + keeps SQLite from walking all of history in prefix order where `where` is empty: what ended after $1 is
        // little mostly.
        sql += fmt::format(
            " UNION ALL SELECT +first, +length, customer, since, until, source, ended FROM past_assignment"
            " WHERE since <= $1 AND ended > $1{}",
            where);
    }
    return sql + fmt::format(" ORDER BY first, length{}", limit);
}

}  // namespace

void each_assignment(Database& database, const std::optional<std::string>& customer, Instant at,
                     const std::function<void(const Assignment&)>& each) {
    const std::string sql = holding_at(customer ? " AND customer = $2" : "", ended_after(database, at));
    database.query(sql, {to_number(at), optional_value(customer)},
                   [&](const Row& row) { each(assignment_of(row, true)); });
}

std::optional<Assignment> holder(Database& database, const Prefix& address, Instant at) {
    const std::string sql = holding_at(" AND first = $2 AND length = $3", ended_after(database, at));
    for (uint8_t length : lengths_in_use(database, address.family())) {
        if (length > address.length()) continue;
        std::optional<Assignment> found;
        database.query(sql, {to_number(at), first_of(address.widened(length)), int64_t{length}},
                       [&](const Row& row) { found = assignment_of(row, true); });
        if (found) return found;
    }
    return {};
}

std::vector<Assignment> held_within(Database& database, const Prefix& prefix, Instant at, size_t limit) {
    std::vector<Assignment> result;
    const std::string sql =
        holding_at(" AND first BETWEEN $2 AND $3 AND length >= $4", ended_after(database, at), " LIMIT $5");
    database.query(
        sql,
        {to_number(at), first_of(prefix), bytes(prefix.last_key()), length_of(prefix), static_cast<int64_t>(limit)},
        [&](const Row& row) { result.push_back(assignment_of(row, true)); });
    return result;
}

}  // namespace smtpfence
