#include "subscribers/policy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "subscribers/facts.hpp"
#include "subscribers/rows.hpp"

namespace smtpfence {

namespace {

std::vector<Prefix> relay_prefixes(Database& database) {
    std::vector<Prefix> result;
    for (const Relay& relay : relays(database)) result.push_back(relay.prefix);
    return result;
}

std::vector<std::pair<Prefix, Action>> pool_actions(Database& database) {
    std::vector<std::pair<Prefix, Action>> result;
    for (const Pool& pool : pools(database)) result.emplace_back(pool.prefix, pool.action);
    return result;
}

}  // namespace

std::optional<Instant> right_of(Database& database, const Prefix& prefix, Instant now) {
    std::optional<Instant> until;
    database.query(
        "SELECT e.until, a.until FROM assignment a CROSS JOIN exemption e"
        " WHERE a.first = $1 AND a.length = $2 AND (a.until IS NULL OR a.until > $3)"
        " AND e.customer = a.customer AND e.revoked IS NULL AND e.until > $3",
        {first_of(prefix), length_of(prefix), to_number(now)},
        [&](const Row& row) { until = std::min(to_instant(row.integer(0)), row.instant(1).value_or(Instant::max())); });
    return until;
}

Policy read_policy_without_rights(Database& database) {
    return {current_revision(database), relay_prefixes(database), pool_actions(database), {}};
}

Policy read_policy(Database& database, Instant now) {
    const Reading reading(database);
    Policy policy = read_policy_without_rights(database);
    policy.rights = read_rights(database, now);
    return policy;
}

namespace {

/// What the change log names after a revision.
struct Touched {
    bool relays = false, pools = false;
    std::set<Prefix> prefixes;
    std::set<std::string> customers;  ///< whose exemption changed or ended
};

/// A follower further behind than this reads everything: what ended meanwhile may be forgotten history.
constexpr Seconds longest_absence{3600};

/// Whether the log leads from the follower's state to this one.
bool reaches_back(Database& database, Revision since, Revision revision, Instant since_time, Instant now) {
    if (since > revision || since_time > now || now - since_time > longest_absence) return false;
    if (since == 0) return true;
    bool found = false;
    database.query("SELECT 1 FROM revision WHERE number = $1", {since}, [&](const Row&) { found = true; });
    return found;
}

/// False: more than `limit` entries.
bool read_log(Database& database, Revision since, size_t limit, Touched& touched) {
    size_t entries = 0;
    database.query(
        "SELECT object, customer, first, length FROM change WHERE revision > $1 AND object <> 'customer' LIMIT $2",
        {since, static_cast<int64_t>(limit) + 1}, [&](const Row& row) {
            ++entries;
            switch (parse_object(row.text(0))) {
                case Object::relay:
                    touched.relays = true;
                    break;
                case Object::pool:
                    touched.pools = true;
                    break;
                case Object::customer:
                    break;
                case Object::assignment:
                    touched.prefixes.insert(Prefix::from_key(row.blob(2), row.integer(3)));
                    break;
                case Object::exemption:
                    touched.customers.emplace(row.text(1));
                    break;
            }
        });
    return entries <= limit;
}

/// Adds what ended by itself in (since_time, now]. False: more than `limit` rows.
bool read_ends(Database& database, Instant since_time, Instant now, size_t limit, Touched& touched) {
    const int64_t most = static_cast<int64_t>(limit) + 1;
    size_t rows = 0;
    database.query("SELECT customer FROM exemption WHERE revoked IS NULL AND until > $1 AND until <= $2 LIMIT $3",
                   {to_number(since_time), to_number(now), most}, [&](const Row& row) {
                       ++rows;
                       touched.customers.emplace(row.text(0));
                   });
    const auto add_prefix = [&](const Row& row) {
        ++rows;
        touched.prefixes.insert(Prefix::from_key(row.blob(0), row.integer(1)));
    };
    database.query("SELECT first, length FROM assignment WHERE until > $1 AND until <= $2 LIMIT $3",
                   {to_number(since_time), to_number(now), most}, add_prefix);
    // A writer may have moved the row to history already, which is no change of its own.
    database.query(
        "SELECT first, length FROM past_assignment WHERE ended > $1 AND ended <= $2 AND ended = until LIMIT $3",
        {to_number(since_time), to_number(now), most}, add_prefix);
    return rows <= limit;
}

/// Adds what the touched customers hold. False: more than `limit` prefixes in all.
bool add_held(Database& database, size_t limit, Touched& touched) {
    for (const std::string& customer : touched.customers) {
        database.query("SELECT first, length FROM assignment WHERE customer = $1", {customer},
                       [&](const Row& row) { touched.prefixes.insert(Prefix::from_key(row.blob(0), row.integer(1))); });
        if (touched.prefixes.size() > limit) return false;
    }
    return touched.prefixes.size() <= limit;
}

/// Within a transaction of the caller.
std::optional<PolicyDelta> delta_since(Database& database, Revision since, Instant since_time, Instant now,
                                       size_t limit) {
    PolicyDelta delta;
    delta.revision = current_revision(database);
    if (!reaches_back(database, since, delta.revision, since_time, now)) return {};
    Touched touched;
    if (!read_log(database, since, limit, touched)) return {};
    if (!read_ends(database, since_time, now, limit, touched)) return {};
    if (!add_held(database, limit, touched)) return {};
    if (touched.relays) delta.relays = relay_prefixes(database);
    if (touched.pools) delta.pools = pool_actions(database);
    for (const Prefix& prefix : touched.prefixes) delta.rights.emplace_back(prefix, right_of(database, prefix, now));
    return delta;
}

}  // namespace

std::optional<PolicyDelta> read_delta(Database& database, Revision since, Instant since_time, Instant now,
                                      size_t limit) {
    const Reading reading(database);
    return delta_since(database, since, since_time, now, limit);
}

void bring_up(Policy& policy, PolicyDelta delta) {
    policy.revision = delta.revision;
    if (delta.relays) policy.relays = std::move(*delta.relays);
    if (delta.pools) policy.pools = std::move(*delta.pools);
    if (delta.rights.empty()) return;
    std::deque<Right> rights;
    auto& old = policy.rights;
    const auto keep_before = [&](const Prefix* end) {
        for (; !old.empty() && (!end || old.front().prefix < *end); old.pop_front()) rights.push_back(old.front());
    };
    for (const auto& [prefix, until] : delta.rights) {
        keep_before(&prefix);
        if (!old.empty() && old.front().prefix == prefix) old.pop_front();
        if (until) rights.push_back({prefix, *until});
    }
    keep_before(nullptr);
    old = std::move(rights);
}

std::optional<PolicyDelta> read_delta(Change& change, size_t limit) {
    const Revision since = change.revision() - (change.empty() ? 0 : 1);
    return delta_since(change.database(), since, change.time(), change.time(), limit);
}

std::optional<Instant> next_end(Database& database, Instant now) {
    std::optional<Instant> next;
    database.query("SELECT until FROM exemption WHERE revoked IS NULL AND until > $1 ORDER BY until LIMIT 1",
                   {to_number(now)}, [&](const Row& row) { next = to_instant(row.integer(0)); });
    // Most assignments that end are of customers without exemption. Look for one that has it, but not through millions:
    // the last one looked at is early enough.
    constexpr int64_t looked_at = 1000;
    int64_t rows = 0;
    std::optional<Instant> last;
    bool found = false;
    database.query(
        "SELECT a.until, e.until FROM (SELECT customer, until FROM assignment WHERE until > $1 ORDER BY until LIMIT "
        "$2) a"
        " LEFT JOIN exemption e ON e.customer = a.customer AND e.revoked IS NULL AND e.until > $1 ORDER BY a.until",
        {to_number(now), looked_at}, [&](const Row& row) {
            ++rows;
            if (found) return;
            last = to_instant(row.integer(0));
            found = !row.null(1);
        });
    if (last && (found || rows == looked_at) && (!next || *last < *next)) next = last;
    return next;
}

// Causes

namespace {

struct Entry {
    Revision revision = 0;
    std::string who, command;
    std::optional<std::string> reason;
    nlohmann::json before, after;

    /// "at revision 12 by alice"
    std::string origin() const { return fmt::format("at revision {} by {}", revision, who); }
};

nlohmann::json json_of(const Row& row, int column) {
    return row.null(column) ? nlohmann::json() : nlohmann::json::parse(row.text(column), nullptr, false);
}

/// The newest entry that `where` names with $1 = object, $2, $3.
std::optional<Entry> last_entry(Database& database, Object object, std::string_view where, Value second, Value third) {
    std::optional<Entry> entry;
    database.query(fmt::format("SELECT r.number, coalesce(r.operator, r.login), r.command, r.reason, c.before, c.after"
                               " FROM change c JOIN revision r ON r.number = c.revision WHERE c.object = $1 AND {}"
                               " ORDER BY c.revision DESC, c.item DESC LIMIT 1",
                               where),
                   {std::string(word(object)), std::move(second), std::move(third)}, [&](const Row& row) {
                       entry = Entry{row.integer(0),       std::string(row.text(1)), std::string(row.text(2)),
                                     row.optional_text(3), json_of(row, 4),          json_of(row, 5)};
                   });
    return entry;
}
std::optional<Entry> last_entry(Database& database, Object object, const Prefix& prefix) {
    return last_entry(database, object, "c.first = $2 AND c.length = $3", first_of(prefix), length_of(prefix));
}
std::optional<Entry> last_entry(Database& database, Object object, const std::string& customer) {
    return last_entry(database, object, "c.customer = $2", customer, {});
}

std::string ticket_of(const Exemption& exemption) {
    return exemption.ticket ? fmt::format(" (ticket {})", *exemption.ticket) : "";
}

/// Why a prefix that is held by `assignment` is exempt or not.
std::string cause_of_held(Database& database, const Assignment& assignment, Instant now) {
    const std::string& customer = assignment.customer;
    const auto held = exemption(database, customer);
    if (!held) return fmt::format("held by customer {}, who never had an exemption", customer);
    if (held->active(now)) {
        const bool ends_before = assignment.until && *assignment.until < held->until;
        return fmt::format("customer {} exempt until {}{}{}", customer, format_instant(held->until), ticket_of(*held),
                           ends_before ? ", assigned until " + format_instant(*assignment.until) : "");
    }
    if (!held->revoked) return fmt::format("exemption of {} ended {}", customer, format_instant(held->until));
    const auto entry = last_entry(database, Object::exemption, customer);
    return fmt::format("exemption of {} revoked{}{}", customer, entry ? " " + entry->origin() : "",
                       held->revoke_reason ? ": " + *held->revoke_reason : "");
}

}  // namespace

std::string right_cause(Database& database, const Prefix& prefix, Instant now) {
    if (const auto held = holder(database, prefix, now)) return cause_of_held(database, *held, now);
    const auto entry = last_entry(database, Object::assignment, prefix);
    if (!entry) return "never assigned to a customer";
    if (entry->after.is_null()) {
        const std::string customer = entry->before.is_object() ? entry->before.value("customer", "") : "";
        return fmt::format("{} {} ({}); was customer {}'s", entry->command == "release" ? "released" : "taken away",
                           entry->origin(), entry->command, customer);
    }
    return fmt::format("assignment to customer {} ended {}", entry->after.value("customer", ""),
                       entry->after.value("until", ""));
}

std::string object_cause(Database& database, Object object, const Prefix& prefix) {
    const auto entry = last_entry(database, object, prefix);
    if (!entry) return "never in the database";
    const char* verb = entry->before.is_null() ? "added" : entry->after.is_null() ? "removed" : "changed";
    return fmt::format("{} {} ({}){}", verb, entry->origin(), entry->command,
                       entry->reason ? ": " + *entry->reason : "");
}

}  // namespace smtpfence
