#include "subscribers/sqlite_statement.hpp"

#include <cstdlib>

namespace smtpfence {

Statement prepare(sqlite3* connection, std::string_view sql) {
    sqlite3_stmt* handle = nullptr;
    const int result = sqlite3_prepare_v3(connection, sql.data(), static_cast<int>(sql.size()),
                                          SQLITE_PREPARE_PERSISTENT, &handle, nullptr);
    Statement statement;
    statement.handle.reset(handle);
    if (result != SQLITE_OK) return {};
    for (int slot = 1; slot <= sqlite3_bind_parameter_count(handle); ++slot) {
        const auto number =
            static_cast<size_t>(std::strtol(sqlite3_bind_parameter_name(handle, slot) + 1, nullptr, 10));
        if (statement.slots.size() < number) statement.slots.resize(number);
        statement.slots[number - 1] = slot;
    }
    return statement;
}

int bind(sqlite3_stmt* statement, int slot, const Value& value) {
    if (const auto* number = std::get_if<int64_t>(&value)) return sqlite3_bind_int64(statement, slot, *number);
    if (const auto* text = std::get_if<std::string>(&value)) {
        return sqlite3_bind_text64(statement, slot, text->data(), text->size(), SQLITE_STATIC, SQLITE_UTF8);
    }
    if (const auto* blob = std::get_if<Bytes>(&value)) {
        return sqlite3_bind_blob64(statement, slot, blob->value.data(), blob->value.size(), SQLITE_STATIC);
    }
    return sqlite3_bind_null(statement, slot);
}

}  // namespace smtpfence
