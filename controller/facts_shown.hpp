#pragma once
// Customers' facts as commands show them: more than the change log keeps (facts.hpp), with nulls for what is missing.

#include "controller/output.hpp"
#include "subscribers/customer.hpp"
#include "subscribers/router.hpp"

namespace smtpfence {

Json shown(const Exemption&, Instant at);
Json shown(const Assignment&);
/// "attempts", "sources", "first_seen", "last_seen".
Json shown(const Attempts&);

}  // namespace smtpfence
