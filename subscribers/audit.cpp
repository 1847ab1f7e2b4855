#include "subscribers/audit.hpp"

#include <fmt/format.h>

#include <vector>

namespace smtpfence {

namespace {

nlohmann::json facts_of(const Row& row, int column) {
    if (row.null(column)) return nullptr;
    auto facts = nlohmann::json::parse(row.text(column), nullptr, false);
    if (facts.is_discarded()) {
        throw DatabaseError(DatabaseError::Kind::corrupt, fmt::format("the change log holds facts that are no JSON: {}",
                                                                      std::string(row.text(column))));
    }
    return facts;
}

AuditEntry entry_of(const Row& row) {
    AuditEntry entry;
    entry.revision = row.integer(0);
    entry.time = to_instant(row.integer(1));
    entry.login = row.text(2);
    entry.operator_name = row.optional_text(3);
    entry.host = row.text(4);
    entry.command = row.text(5);
    entry.reason = row.optional_text(6);
    entry.object = parse_object(row.text(7));
    entry.customer = row.optional_text(8);
    if (!row.null(9)) entry.prefix = Prefix::from_key(row.blob(9), row.integer(10));
    entry.before = facts_of(row, 11);
    entry.after = facts_of(row, 12);
    return entry;
}

// The conditions of a filter, and what is bound to them. Who and when stand in the revisions, of which an import has
// one and a million changes: so they choose revisions first, and the changes are found by those.
struct Where {
    std::string sql;
    std::vector<Value> parameters;

    std::string bind(Value value) {
        parameters.push_back(std::move(value));
        return fmt::format("${}", parameters.size());
    }
    void add(const std::string& condition) { sql += (sql.empty() ? " WHERE " : " AND ") + condition; }
};

// What lies inside the prefix is one range of keys; what contains it begins at one of its at most 128 ancestors.
std::string about(Where& where, const Prefix& prefix) {
    std::string sql =
        fmt::format("(c.first BETWEEN {} AND {} AND c.length >= {})", where.bind(bytes(prefix.first_key())),
                    where.bind(bytes(prefix.last_key())), where.bind(int64_t{prefix.length()}));
    for (int length = prefix.length() - 1; length >= 0; --length) {
        sql += fmt::format(" OR (c.first = {} AND c.length = {})",
                           where.bind(bytes(prefix.widened(static_cast<uint8_t>(length)).first_key())), length);
    }
    return "(" + sql + ")";
}

Where where_of(const AuditFilter& filter) {
    Where where;
    if (filter.customer) where.add(fmt::format("c.customer = {}", where.bind(*filter.customer)));
    if (filter.prefix) where.add(about(where, *filter.prefix));
    if (filter.operator_name) {
        const std::string name = where.bind(*filter.operator_name);
        where.add(
            fmt::format("c.revision IN (SELECT number FROM revision WHERE operator = {} OR login = {})", name, name));
    }
    if (filter.since) {
        const std::string since = where.bind(to_number(*filter.since));
        where.add(fmt::format("c.revision >= (SELECT min(number) FROM revision WHERE time >= {}) AND r.time >= {}",
                              since, since));
    }
    if (filter.until) where.add(fmt::format("r.time < {}", where.bind(to_number(*filter.until))));
    return where;
}

}  // namespace

void each_audit_entry(Database& database, const AuditFilter& filter,
                      const std::function<void(const AuditEntry&)>& each) {
    const Where where = where_of(filter);
    const std::string sql = fmt::format(
        "SELECT r.number, r.time, r.login, r.operator, r.host, r.command, r.reason, c.object, c.customer, c.first,"
        " c.length, c.before, c.after FROM change c JOIN revision r ON r.number = c.revision{}"
        " ORDER BY c.revision, c.item",
        where.sql);
    database.query(sql, where.parameters, [&](const Row& row) { each(entry_of(row)); });
}

}  // namespace smtpfence
