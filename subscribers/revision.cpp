#include "subscribers/revision.hpp"

#include <fmt/format.h>

namespace smtpfence {

std::optional<Instant> revision_time(Database& database, Revision number) {
    std::optional<Instant> time;
    database.query("SELECT time FROM revision WHERE number = $1", {number},
                   [&](const Row& row) { time = row.instant(0); });
    return time;
}

std::string revision_mark(Database& database, Revision number) {
    std::string mark;
    database.query(
        "SELECT r.time, r.login, r.operator, r.host, r.command, r.reason, r.source, c.object, c.customer, c.first,"
        " c.length, c.before, c.after FROM revision r JOIN change c ON c.revision = r.number"
        " WHERE r.number = $1 AND c.item = 1",
        {number}, [&](const Row& row) {
            mark = fmt::format("{}", row.integer(0));
            for (const int column : {1, 2, 3, 4, 5, 6, 7, 8, 11, 12})
                mark += fmt::format("\n{}", row.null(column) ? "" : row.text(column));
            if (!row.null(9)) mark += "\n" + Prefix::from_key(row.blob(9), row.integer(10)).text();
        });
    return mark;
}

}  // namespace smtpfence
