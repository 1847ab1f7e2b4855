#pragma once
// SQLite's statements with their owner: prepared once, executed many times, read as rows.

#include <sqlite3.h>

#include <vector>

#include "subscribers/database.hpp"

namespace smtpfence {

struct StatementDeleter {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
/// A prepared statement.
struct Statement {
    std::unique_ptr<sqlite3_stmt, StatementDeleter> handle;
    std::vector<int> slots;  ///< SQLite's index of $1, $2, ...; 0: not in the text
    bool running = false;
};

/// On failure `handle` is empty; the connection knows why.
Statement prepare(sqlite3* connection, std::string_view sql);

/// SQLite's result.
int bind(sqlite3_stmt*, int slot, const Value&);

/// The current row; valid as Row says.
class SqliteRow final : public Row {
public:
    explicit SqliteRow(sqlite3_stmt* statement) : statement_(statement) {}
    bool null(int column) const override { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }
    int64_t integer(int column) const override { return sqlite3_column_int64(statement_, column); }
    std::string_view text(int column) const override {
        const auto* begin = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
        return {begin ? begin : "", static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
    }
    std::string_view blob(int column) const override {
        const auto* begin = static_cast<const char*>(sqlite3_column_blob(statement_, column));
        return {begin ? begin : "", static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
    }

private:
    sqlite3_stmt* statement_;
};

/// A statement in use: reset at the end, whatever happens, so that it holds no lock.
class Execution {
public:
    explicit Execution(Statement& statement) : statement_(statement) { statement_.running = true; }
    ~Execution() {
        sqlite3_reset(statement_.handle.get());
        sqlite3_clear_bindings(statement_.handle.get());
        statement_.running = false;
    }
    Execution(const Execution&) = delete;
    Execution& operator=(const Execution&) = delete;

private:
    Statement& statement_;
};

}  // namespace smtpfence
