#include "subscribers/revision.hpp"

namespace smtpfence {

std::optional<Instant> revision_time(Database& database, Revision number) {
    std::optional<Instant> time;
    database.query("SELECT time FROM revision WHERE number = $1", {number},
                   [&](const Row& row) { time = row.instant(0); });
    return time;
}

}  // namespace smtpfence
