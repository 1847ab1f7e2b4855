#pragma once
// Why a plan adds or deletes an element of the pool maps. The database has pools that nest, the map their flattened
// parts: an element may be a pool, the rest of one around those inside it, or neither any more.

#include "rules/difference.hpp"

namespace smtpfence {

/// "added at revision 1 by alice (pool add)", "part of pool 100.64.0.0/10, added at ...", "gives way to pool
/// 100.64.8.0/24, added at ...". `actual`: the fence that the change starts from. Never empty.
std::string pool_cause(Database&, const Fence& actual, const ChangeLine&);

}  // namespace smtpfence
