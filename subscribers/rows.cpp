#include "subscribers/rows.hpp"

#include "subscribers/facts.hpp"

namespace smtpfence {

namespace {

// A row that is over goes to history before another one takes its place.
void move_over_to_past(Change& change, const Prefix& prefix) {
    change.database().query(
        "INSERT INTO past_assignment (first, length, customer, since, until, ended, source)"
        " SELECT first, length, customer, since, until, until, source FROM assignment"
        " WHERE first = $1 AND length = $2 AND until <= $3",
        {first_of(prefix), length_of(prefix), to_number(change.time())});
    change.database().query("DELETE FROM assignment WHERE first = $1 AND length = $2 AND until <= $3",
                            {first_of(prefix), length_of(prefix), to_number(change.time())});
}

}  // namespace

Relay relay_of(const Row& row) {
    return {Prefix::from_key(row.blob(0), row.integer(1)), row.optional_text(2), std::string(row.text(3))};
}

Pool pool_of(const Row& row) {
    return {Prefix::from_key(row.blob(0), row.integer(1)), row.optional_text(2), parse_action(row.text(3)),
            std::string(row.text(4))};
}

Assignment assignment_of(const Row& row, bool ended) {
    return {Prefix::from_key(row.blob(0), row.integer(1)),
            std::string(row.text(2)),
            to_instant(row.integer(3)),
            row.instant(4),
            std::string(row.text(5)),
            ended ? row.instant(6) : std::nullopt};
}

std::optional<Relay> find_relay(Database& database, const Prefix& prefix) {
    std::optional<Relay> found;
    database.query("SELECT first, length, note, source FROM relay WHERE first = $1 AND length = $2",
                   {first_of(prefix), length_of(prefix)}, [&](const Row& row) { found = relay_of(row); });
    return found;
}

std::optional<Pool> find_pool(Database& database, const Prefix& prefix) {
    std::optional<Pool> found;
    database.query("SELECT first, length, name, action, source FROM pool WHERE first = $1 AND length = $2",
                   {first_of(prefix), length_of(prefix)}, [&](const Row& row) { found = pool_of(row); });
    return found;
}

std::optional<Assignment> find_assignment(Database& database, const Prefix& prefix) {
    std::optional<Assignment> found;
    database.query(
        "SELECT first, length, customer, since, until, source FROM assignment WHERE first = $1 AND length = $2",
        {first_of(prefix), length_of(prefix)}, [&](const Row& row) { found = assignment_of(row); });
    return found;
}

std::optional<Assignment> held_by_other(Database& database, const Prefix& prefix, const std::string& customer,
                                        Instant at) {
    if (auto wider = holder(database, prefix, at); wider && wider->customer != customer) return wider;
    std::optional<Assignment> found;
    database.query(
        "SELECT first, length, customer, since, until, source FROM assignment WHERE first BETWEEN $1 AND $2"
        " AND length >= $3 AND customer <> $4 AND (until IS NULL OR until > $5) LIMIT 1",
        {first_of(prefix), bytes(prefix.last_key()), length_of(prefix), customer, to_number(at)},
        [&](const Row& row) { found = assignment_of(row); });
    return found;
}

void put(Change& change, const std::optional<Relay>& before, const Relay& after) {
    change.database().query(
        "INSERT INTO relay (first, length, note, source) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (first, length) DO UPDATE SET note = excluded.note, source = excluded.source",
        {first_of(after.prefix), length_of(after.prefix), optional_value(after.note), after.source});
    change.record(Object::relay, {}, after.prefix, facts_or_null(before), facts(after));
}

void put(Change& change, const std::optional<Pool>& before, const Pool& after) {
    change.database().query(
        "INSERT INTO pool (first, length, name, action, source) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (first, length) DO UPDATE SET name = excluded.name, action = excluded.action,"
        " source = excluded.source",
        {first_of(after.prefix), length_of(after.prefix), optional_value(after.name), std::string(word(after.action)),
         after.source});
    change.record(Object::pool, {}, after.prefix, facts_or_null(before), facts(after));
}

void put(Change& change, const std::optional<Assignment>& before, const Assignment& after) {
    const Prefix& prefix = after.prefix;
    if (!before) move_over_to_past(change, prefix);
    change.database().query(
        "INSERT INTO assignment_length (family, length) VALUES ($1, $2) ON CONFLICT (family, length) DO NOTHING",
        {static_cast<int64_t>(prefix.family()), length_of(prefix)});
    change.database().query(
        "INSERT INTO assignment (first, length, customer, since, until, source) VALUES ($1, $2, $3, $4, $5, $6)"
        " ON CONFLICT (first, length) DO UPDATE SET customer = excluded.customer, until = excluded.until,"
        " source = excluded.source",
        {first_of(prefix), length_of(prefix), after.customer, to_number(change.time()), optional_value(after.until),
         after.source});
    change.record(Object::assignment, after.customer, prefix, facts_or_null(before), facts(after));
}

void put(Change& change, const std::optional<Exemption>& before, const Exemption& after) {
    change.database().query(
        "INSERT INTO exemption (customer, reason, ticket, asked_by, granted_by, since, until, counted_from, revoked,"
        " revoke_reason, source) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
        " ON CONFLICT (customer) DO UPDATE SET reason = excluded.reason, ticket = excluded.ticket,"
        " asked_by = excluded.asked_by, granted_by = excluded.granted_by, since = excluded.since,"
        " until = excluded.until, counted_from = excluded.counted_from, revoked = excluded.revoked,"
        " revoke_reason = excluded.revoke_reason, source = excluded.source",
        {after.customer, after.reason, optional_value(after.ticket), optional_value(after.asked_by), after.granted_by,
         to_number(after.since), to_number(after.until), to_number(after.counted_from), optional_value(after.revoked),
         optional_value(after.revoke_reason), after.source});
    change.record(Object::exemption, after.customer, {}, facts_or_null(before), facts(after));
}

}  // namespace smtpfence
