#include "subscribers/router.hpp"

#include <algorithm>
#include <map>
#include <tuple>

#include "subscribers/customer.hpp"

namespace smtpfence {

namespace {

/// A transaction for what takes no revision.
class Reporting {
public:
    explicit Reporting(Database& database) : database_(database) { database_.begin_reporting(); }
    /// For what a person asked for: waits for the lock as other writers do.
    static Reporting patiently(Database& database) { return {database, true}; }
    ~Reporting() { database_.rollback(); }  // nothing after commit()
    Reporting(const Reporting&) = delete;
    Reporting& operator=(const Reporting&) = delete;
    void commit() { database_.commit(); }

private:
    Reporting(Database& database, bool) : database_(database) { database_.begin_writing(); }

    Database& database_;
};

/// One statement as a transaction of its own; the number of rows written.
int64_t report(Database& database, std::string_view sql, std::initializer_list<Value> parameters) {
    Reporting reporting(database);
    const int64_t written = database.query(sql, parameters);
    if (written != 0) reporting.commit();
    return written;
}

constexpr int64_t hour_seconds = 3600;
int64_t hour_of(Instant t) { return to_number(t) / hour_seconds * hour_seconds; }

Prefix address_of(const Row& row, int column) {
    const std::string_view key = row.blob(column);
    return Prefix::from_key(key, key.size() == 5 ? 32 : 128);
}

}  // namespace

void write_report(Database& database, const Report& state) {
    report(
        database,
        "INSERT INTO router (name, revision, heartbeat, last_pass, verified_at, drift_healed, error, error_since,"
        " version, notes, guard) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (name) DO UPDATE SET"
        " revision = excluded.revision, heartbeat = excluded.heartbeat, last_pass = excluded.last_pass,"
        " verified_at = excluded.verified_at, drift_healed = excluded.drift_healed, error = excluded.error,"
        " error_since = excluded.error_since, version = excluded.version, notes = excluded.notes,"
        " guard = excluded.guard",
        {state.router, state.revision, to_number(state.heartbeat), optional_value(state.last_pass),
         optional_value(state.verified_at), state.drift_healed, optional_value(state.error),
         optional_value(state.error_since), state.version, state.notes, optional_value(state.guard)});
}

Revision reported_revision(Database& database, std::string_view router) {
    Revision revision = 0;
    database.query("SELECT revision FROM router WHERE name = $1", {std::string(router)},
                   [&](const Row& row) { revision = row.integer(0); });
    return revision;
}

std::vector<Report> reports(Database& database) {
    std::vector<Report> result;
    database.query(
        "SELECT name, revision, heartbeat, last_pass, verified_at, drift_healed, error, error_since, version, notes, "
        "guard"
        " FROM router ORDER BY name",
        {}, [&](const Row& row) {
            result.push_back({std::string(row.text(0)), row.integer(1), to_instant(row.integer(2)), row.instant(3),
                              row.instant(4), row.integer(5), row.optional_text(6), row.instant(7),
                              std::string(row.text(8)), std::string(row.text(9)), row.optional_text(10)});
        });
    return result;
}

void write_withheld(Database& database, std::string_view router, const std::vector<Prefix>& prefixes) {
    Reporting reporting(database);
    const std::string name(router);
    database.query("DELETE FROM withheld WHERE router = $1", {name});
    for (const Prefix& prefix : prefixes) {
        database.query("INSERT INTO withheld (router, first, length) VALUES ($1, $2, $3)",
                       {name, bytes(prefix.first_key()), int64_t{prefix.length()}});
    }
    reporting.commit();
}

std::vector<Prefix> withheld_of(Database& database, std::string_view router, const std::vector<Prefix>& prefixes) {
    std::vector<Prefix> withheld;
    for (const Prefix& prefix : prefixes) {
        database.query("SELECT 1 FROM withheld WHERE router = $1 AND first = $2 AND length = $3",
                       {std::string(router), bytes(prefix.first_key()), int64_t{prefix.length()}},
                       [&](const Row&) { withheld.push_back(prefix); });
    }
    return withheld;
}

bool forget_router(Database& database, std::string_view router) {
    Reporting reporting = Reporting::patiently(database);
    const std::string name(router);
    const bool known = database.query("DELETE FROM router WHERE name = $1", {name}) != 0;
    const bool counted = database.query("DELETE FROM attempt_counter WHERE router = $1", {name}) != 0;
    const bool withheld = database.query("DELETE FROM withheld WHERE router = $1", {name}) != 0;
    if (known || counted || withheld) reporting.commit();
    return known;
}

int64_t request_apply(Database& database, std::string_view router, const Actor& actor,
                      const std::optional<std::string>& confirm) {
    Reporting reporting = Reporting::patiently(database);
    int64_t number = 0;
    database.query(
        "INSERT INTO apply_request (router, login, operator, host, time, confirm) VALUES ($1, $2, $3, $4, $5, $6)"
        " RETURNING number",
        {std::string(router), actor.login, optional_value(actor.operator_name), actor.host, to_number(now()),
         optional_value(confirm)},
        [&](const Row& row) { number = row.integer(0); });
    reporting.commit();
    return number;
}

std::vector<ApplyRequest> open_requests(Database& database, std::string_view router) {
    std::vector<ApplyRequest> result;
    database.query(
        "SELECT number, login, confirm FROM apply_request WHERE router = $1 AND answer IS NULL ORDER BY number",
        {std::string(router)}, [&](const Row& row) {
            result.push_back({row.integer(0), std::string(row.text(1)), row.optional_text(2)});
        });
    return result;
}

void confirm_openings(Change& change, std::string_view digest, std::string_view openings) {
    if (change.empty() || openings.empty()) return;
    change.database().query("INSERT INTO confirmation (revision, digest, openings) VALUES ($1, $2, $3)",
                            {change.revision(), std::string(digest), std::string(openings)});
}

std::vector<std::string> confirmed_digests(Database& database, Revision after) {
    std::vector<std::string> digests;
    database.query("SELECT digest FROM confirmation WHERE revision > $1", {after},
                   [&](const Row& row) { digests.push_back(row.optional_text(0).value_or("")); });
    return digests;
}

void confirmed_openings(Database& database, Revision after, const std::function<void(std::string_view)>& lines) {
    database.query("SELECT openings FROM confirmation WHERE revision > $1 ORDER BY revision", {after},
                   [&](const Row& row) { lines(row.text(0)); });
}

void answer_request(Database& database, int64_t number, std::string_view result) {
    report(database, "UPDATE apply_request SET answer = $2, answered = $3 WHERE number = $1 AND answer IS NULL",
           {number, std::string(result), to_number(now())});
}

std::optional<std::string> request_answer(Database& database, int64_t number) {
    std::optional<std::string> answer;
    database.query("SELECT answer FROM apply_request WHERE number = $1", {number},
                   [&](const Row& row) { answer = row.optional_text(0); });
    return answer;
}

bool withdraw_request(Database& database, int64_t number) {
    Reporting reporting = Reporting::patiently(database);
    const bool open = database.query("DELETE FROM apply_request WHERE number = $1 AND answer IS NULL", {number}) != 0;
    if (open) reporting.commit();
    return open;
}

// Attempts

namespace {

void add_attempts(Database& database, const Prefix& source, int64_t packets, Instant now) {
    const auto held = holder(database, source, now);
    database.query(
        "INSERT INTO attempt (hour, address, customer, packets, first_seen, last_seen) VALUES ($1, $2, $3, $4, $5, $5)"
        " ON CONFLICT (hour, address, customer) DO UPDATE SET packets = packets + excluded.packets,"
        " last_seen = excluded.last_seen",
        {hour_of(now), bytes(source.first_key()), held ? held->customer : "", packets, to_number(now)});
}

}  // namespace

int64_t write_attempts(Database& database, std::string_view router, AttemptReading& reading, Instant now,
                       size_t at_most) {
    const std::string name(router);
    const size_t end = std::min(reading.counts.size(), reading.written + at_most);
    const bool last = end == reading.counts.size();
    // The slice speaks for every source after the one before it, up to its own last one.
    const std::string after = reading.written == 0 ? "" : reading.counts[reading.written - 1].source.first_key();
    const std::string upto = last ? "\xff" : reading.counts[end - 1].source.first_key();
    std::map<std::string, int64_t> vanished;  // what was read before and not now
    database.query("SELECT address, packets FROM attempt_counter WHERE router = $1 AND address > $2 AND address <= $3",
                   {name, bytes(after), bytes(upto)},
                   [&](const Row& row) { vanished.emplace(row.blob(0), row.integer(1)); });
    struct Growth {
        AttemptCount count;
        int64_t packets;
    };
    std::vector<Growth> grown;
    for (size_t i = reading.written; i < end; ++i) {
        const AttemptCount& count = reading.counts[i];
        const auto before = vanished.find(count.source.first_key());
        const int64_t known = before == vanished.end() ? 0 : before->second;
        if (before != vanished.end()) vanished.erase(before);
        // A smaller count is that of a new element.
        if (count.packets != known) grown.push_back({count, count.packets - (count.packets > known ? known : 0)});
    }
    if (!grown.empty() || !vanished.empty()) {
        Reporting reporting(database);
        for (const Growth& growth : grown) {
            add_attempts(database, growth.count.source, growth.packets, now);
            database.query(
                "INSERT INTO attempt_counter (router, address, packets) VALUES ($1, $2, $3)"
                " ON CONFLICT (router, address) DO UPDATE SET packets = excluded.packets",
                {name, bytes(growth.count.source.first_key()), growth.count.packets});
        }
        for (const auto& [source, packets] : vanished) {
            database.query("DELETE FROM attempt_counter WHERE router = $1 AND address = $2", {name, bytes(source)});
        }
        reporting.commit();
    }
    reading.written = end;
    reading.done = last;
    return static_cast<int64_t>(grown.size());
}

namespace {

/// Adds a row (address, customer, packets, first_seen, last_seen) to the customer's line.
void add_line(std::map<std::string, Attempts>& lines, const Row& row) {
    const std::string customer(row.text(1));
    const auto [found, fresh] = lines.try_emplace(customer);
    Attempts& line = found->second;
    const Instant first_seen = to_instant(row.integer(3)), last_seen = to_instant(row.integer(4));
    if (!customer.empty()) line.customer = customer;
    line.attempts += row.integer(2);
    line.sources.push_back(address_of(row, 0));
    line.first_seen = fresh ? first_seen : std::min(line.first_seen, first_seen);
    line.last_seen = fresh ? last_seen : std::max(line.last_seen, last_seen);
}

}  // namespace

std::vector<Attempts> attempts(Database& database, Instant since, std::optional<Prefix> pool,
                               std::optional<Action> action) {
    const Reading reading(database);
    const std::vector<Pool> all = pool || action ? pools(database) : std::vector<Pool>{};
    std::map<std::string, Attempts> lines;
    database.query(
        "SELECT address, customer, sum(packets), min(first_seen), max(last_seen) FROM attempt"
        " WHERE hour >= $1 AND last_seen >= $2 GROUP BY address, customer ORDER BY address",
        {hour_of(since), to_number(since)}, [&](const Row& row) {
            if (pool || action) {
                const Pool* found = longest_pool(all, address_of(row, 0));
                if (!found || (pool && found->prefix != *pool) || (action && found->action != *action)) return;
            }
            add_line(lines, row);
        });
    std::vector<Attempts> result;
    for (auto& [customer, line] : lines) result.push_back(std::move(line));
    std::stable_sort(result.begin(), result.end(),
                     [](const Attempts& a, const Attempts& b) { return a.attempts > b.attempts; });
    return result;
}

std::optional<Attempts> attempts_of(Database& database, std::string_view customer, Instant since) {
    std::map<std::string, Attempts> lines;
    database.query(
        "SELECT address, customer, sum(packets), min(first_seen), max(last_seen) FROM attempt"
        " WHERE customer = $1 AND hour >= $2 AND last_seen >= $3 GROUP BY address ORDER BY address",
        {std::string(customer), hour_of(since), to_number(since)}, [&](const Row& row) { add_line(lines, row); });
    return lines.empty() ? std::nullopt : std::optional(lines.begin()->second);
}

bool forget_history(Database& database, Instant before) {
    constexpr int64_t forgotten_at_once = 500;
    // A follower may still ask what ended within the last hour (policy.cpp).
    const Instant until = std::min(before, now() - Seconds(2 * hour_seconds));
    constexpr std::string_view statements[] = {
        R"(DELETE FROM past_assignment WHERE number IN
            (SELECT number FROM past_assignment WHERE ended < $1 LIMIT $2))",
        R"(DELETE FROM assignment WHERE (first, length) IN
            (SELECT first, length FROM assignment WHERE until < $1 LIMIT $2))",
        R"(DELETE FROM attempt WHERE (hour, address, customer) IN
            (SELECT hour, address, customer FROM attempt WHERE hour < $1 - 3600 LIMIT $2))",
        R"(DELETE FROM apply_request WHERE number IN
            (SELECT number FROM apply_request WHERE time < $1 LIMIT $2))",
        // An enlisted router that is behind still needs them; one that only `apply` writes has until then.
        R"(DELETE FROM confirmation WHERE revision IN
            (SELECT confirmation.revision FROM confirmation JOIN revision ON revision.number = confirmation.revision
             WHERE revision.time < $1
             AND confirmation.revision <= coalesce((SELECT min(revision) FROM router), confirmation.revision) LIMIT $2))",
    };
    bool more = false;
    for (std::string_view statement : statements) {
        if (report(database, statement, {to_number(until), forgotten_at_once}) == forgotten_at_once) more = true;
    }
    return more;
}

}  // namespace smtpfence
