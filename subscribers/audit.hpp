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
const char* word(Object);

struct AuditFilter {
    std::optional<std::string> customer;
    std::optional<Prefix> prefix;              ///< entries about it, wider or narrower ones
    std::optional<std::string> operator_name;  ///< matches the stated operator or the login
    std::optional<Instant> since, until;
};
/// Oldest first, streamed.
void each_audit_entry(Database&, const AuditFilter&, const std::function<void(const AuditEntry&)>&);

/// Writes the opposite of one revision's entries, newest first. Unknown revision: Refused (not_found). An object that
/// changed since: Refused (conflict), naming each. Returns the number of objects put back (0: already as it was).
int64_t revert(Change&, Revision);

}  // namespace smtpfence
