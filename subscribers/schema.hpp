#pragma once
// The tables, as numbered migrations. schema.cpp is the reference for every column.

#include "subscribers/database.hpp"

namespace smtpfence {

/// The schema version that this program reads and writes.
extern const int schema_version;

/// Throws DatabaseError (schema) for a database of another version, with the next step.
void require_schema(Database&);

struct Migration {
    int from, to;  ///< equal when there was nothing to do
};

/// Creates or migrates in one transaction. Throws DatabaseError (schema) for a newer database; nothing is changed then.
Migration migrate(Database&);

}  // namespace smtpfence
