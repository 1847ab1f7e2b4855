#include "subscribers/change.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace smtpfence {

namespace {

constexpr const char* object_words[] = {"relay", "pool", "customer", "assignment", "exemption"};

Value json_value(const nlohmann::json& facts) { return facts.is_null() ? Value{} : Value{facts.dump()}; }

}  // namespace

const char* word(Object object) { return object_words[static_cast<size_t>(object)]; }

Object parse_object(std::string_view text) {
    for (size_t i = 0; i < std::size(object_words); ++i) {
        if (text == object_words[i]) return static_cast<Object>(i);
    }
    throw DatabaseError(DatabaseError::Kind::corrupt,
                        fmt::format("the change log holds the unknown object {}", quoted(text)));
}

Revision current_revision(Database& database) {
    std::optional<Revision> revision;
    database.query("SELECT revision FROM state WHERE id = 1", {}, [&](const Row& row) { revision = row.integer(0); });
    if (!revision) {
        throw DatabaseError(DatabaseError::Kind::corrupt,
                            fmt::format("{} has lost its revision; restore it from a backup", database.name()));
    }
    return *revision;
}

Change::Change(Database& database, Actor actor, std::string command, std::optional<std::string> reason,
               std::string source)
    : database_(database),
      actor_(std::move(actor)),
      command_(std::move(command)),
      reason_(std::move(reason)),
      source_(std::move(source)) {
    database_.begin_writing();
    open_ = true;
    try {
        time_ = now();  // after the lock: times never go back from one revision to the next but with the clock
        revision_ = current_revision(database_);
    } catch (...) {
        database_.rollback();
        throw;
    }
}

Change::~Change() {
    if (open_) database_.rollback();
}

void Change::record(Object object, const std::optional<std::string>& customer, const std::optional<Prefix>& prefix,
                    const nlohmann::json& before, const nlohmann::json& after) {
    if (items_ == 0) {
        ++revision_;
        database_.query("UPDATE state SET revision = $1 WHERE id = 1", {revision_});
        database_.query(
            "INSERT INTO revision (number, time, login, operator, host, command, reason, source)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            {revision_, to_number(time_), actor_.login, optional_value(actor_.operator_name), actor_.host, command_,
             optional_value(reason_), source_});
    }
    ++items_;
    touched_[static_cast<size_t>(object)] = true;
    database_.query(
        "INSERT INTO change (revision, item, object, customer, first, length, before, after)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        {revision_, items_, std::string(word(object)), optional_value(customer),
         prefix ? bytes(prefix->first_key()) : Value{}, prefix ? Value{int64_t{prefix->length()}} : Value{},
         json_value(before), json_value(after)});
}

Revision Change::commit() {
    database_.commit();  // also with nothing recorded: rows that were over may have gone to history
    open_ = false;
    return revision_;
}

}  // namespace smtpfence
