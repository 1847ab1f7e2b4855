#pragma once
// The facts of an object as JSON, the form in which the change log keeps what was before and after. Complete: writing
// the parsed facts back restores the object (but for `since`, which begins anew).
//
//   {"prefix":"203.0.113.10/32","note":"mx-out-1","source":"manual"}                          relay
//   {"prefix":"100.64.0.0/10","name":"north","action":"drop","source":"manual"}               pool
//   {"customer":"c1","since":"2027-01-01T00:00:00Z","source":"import"}                        customer
//   {"customer":"c1","prefix":"100.64.3.7/32","until":"2027-01-01T00:00:00Z","source":"crm"}  assignment
//   {"customer":"c1","reason":"…","granted_by":"alice","since":"…","until":"…",...}           exemption
//
// Keys without a value are left out. Reading back throws DatabaseError (corrupt) when a fact is missing or malformed.

#include <nlohmann/json.hpp>

#include "subscribers/customer.hpp"
#include "subscribers/fenced.hpp"

namespace smtpfence {

nlohmann::json facts(const Relay&);
nlohmann::json facts(const Pool&);
nlohmann::json facts(const Assignment&);
nlohmann::json facts(const Exemption&);
template <typename Object>
nlohmann::json facts_or_null(const std::optional<Object>& object) {
    return object ? facts(*object) : nlohmann::json();
}
nlohmann::json customer_facts(const std::string& customer, Instant since, const std::string& source);

Relay relay_from(const nlohmann::json& facts);
Pool pool_from(const nlohmann::json& facts);
Assignment assignment_from(const nlohmann::json& facts);  ///< without `since` and `ended`, which are no facts
Exemption exemption_from(const nlohmann::json& facts);

}  // namespace smtpfence
