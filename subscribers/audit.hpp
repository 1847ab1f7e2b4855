#pragma once
// The append-only change log: reading it, and writing the opposite of one revision.

#include <functional>
#include <nlohmann/json.hpp>

#include "subscribers/fenced.hpp"

namespace smtpfence {

struct AuditEntry {
    Instant time;
    Revision revision = 0;
    std::string login;
    std::optional<std::string> operator_name;
    std::string host;
    std::string command;
    Object object{};
    std::optional<std::string> customer;
    std::optional<Prefix> prefix;
    std::optional<std::string> reason;
    nlohmann::json before, after;  ///< facts; null: did not exist
};

struct AuditFilter {
    std::optional<std::string> customer = {};
    std::optional<Prefix> prefix = {};              ///< entries about it, wider or narrower ones
    std::optional<std::string> operator_name = {};  ///< matches the stated operator or the login
    std::optional<Instant> since = {}, until = {};  ///< `until` is exclusive
};
/// Oldest first, streamed. `each` may query, but not write.
void each_audit_entry(Database&, const AuditFilter&, const std::function<void(const AuditEntry&)>&);

/// Writes the opposite of one revision: each of its objects becomes what it was before, with its source. An object that
/// was changed since, or a prefix that somebody else holds now: Refused (conflict), naming each and the revision that
/// changed it last. Unknown revision: Refused (not_found). Returns the number of objects put back (0: already as it
/// was). Kept are customers, which exist from their first mention, and exemptions that it granted: those become
/// revoked. After a refusal `change` must not be committed.
int64_t revert(Change&, Revision);

}  // namespace smtpfence
