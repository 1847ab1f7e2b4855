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

constexpr std::string_view inside = "first BETWEEN $1 AND $2 AND length >= $3";

/// Streams the rows that contain `prefix`, and then those inside it, also those that are over.
void each_overlapping(Database& database, const Prefix& prefix, const std::vector<uint8_t>& lengths,
                      const std::function<void(Assignment)>& each) {
    for (uint8_t length : lengths) {
        if (length >= prefix.length()) continue;
        database.query(
            "SELECT first, length, customer, since, until, source FROM assignment WHERE first = $1 AND length = $2",
            {first_of(prefix.widened(length)), int64_t{length}}, [&](const Row& row) { each(assignment_of(row)); });
    }
    // Wider ones that begin with the same address were found above.
    static const std::string sql = fmt::format(
        "SELECT first, length, customer, since, until, source FROM assignment WHERE {} ORDER BY first, length", inside);
    database.query(sql, {first_of(prefix), bytes(prefix.last_key()), length_of(prefix)},
                   [&](const Row& row) { each(assignment_of(row)); });
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

/// The same for all rows inside `prefix` that are over.
void end_over_inside(Change& change, const Prefix& prefix) {
    // The + keeps SQLite from walking all that is over anywhere.
    static const std::string over = fmt::format("FROM assignment WHERE {} AND +until <= $4", inside);
    static const std::string keep =
        "INSERT INTO past_assignment (first, length, customer, since, until, ended, source)"
        " SELECT first, length, customer, since, until, until, source " +
        over;
    static const std::string remove = "DELETE " + over;
    for (const std::string* sql : {&keep, &remove}) {
        change.database().query(
            *sql, {first_of(prefix), bytes(prefix.last_key()), length_of(prefix), to_number(change.time())});
    }
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
    Assigned result;
    std::optional<Assignment> same;
    std::vector<Assignment> over;  // that contain it
    bool over_inside = false;
    // Everything is checked before anything is written. Only what ends is kept: a prefix may be mistyped so wide that
    // most of the table lies inside.
    each_overlapping(change.database(), prefix, lengths, [&](Assignment held) {
        if (!held.holds(change.time())) {
            if (prefix.contains(held.prefix)) {
                over_inside = true;
            } else {
                over.push_back(std::move(held));
            }
        } else if (held.customer == customer) {
            if (held.prefix == prefix) same = std::move(held);
        } else if (take && prefix.contains(held.prefix)) {
            result.taken.push_back(std::move(held));
        } else {
            refuse_held(prefix, held);
        }
    });
    for (const Assignment& held : over) end_assignment(change, held, *held.until);
    if (over_inside) end_over_inside(change, prefix);
    for (const Assignment& held : result.taken) {
        end_assignment(change, held, change.time());
        change.record(Object::assignment, held.customer, held.prefix, facts(held), nullptr);
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
