#pragma once
// Imports as tests run them: a file as text into a database, and what the database holds then.

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <optional>
#include <sstream>
#include <string>

#include "scratch.hpp"
#include "subscribers/customer.hpp"
#include "subscribers/import.hpp"

namespace smtpfence {

/// Everything that a table of the database holds, as text.
inline std::string dump(Database& database) {
    std::string text;
    const auto table = [&](const std::string& sql, int count) {
        database.query(sql, {}, [&](const Row& row) {
            for (int i = 0; i < count; ++i) text += row.null(i) ? "-|" : std::string(row.text(i)) + "|";
            text += '\n';
        });
    };
    table("SELECT 'state', revision FROM state", 2);
    table("SELECT 'relay', hex(first), length, note, source FROM relay", 5);
    table("SELECT 'pool', hex(first), length, name, action, source FROM pool", 6);
    table("SELECT 'customer', id, since FROM customer", 3);
    table("SELECT 'assignment', hex(first), length, customer, since, until, source FROM assignment", 7);
    table("SELECT 'past', hex(first), length, customer, since, until, ended, source FROM past_assignment", 8);
    table("SELECT 'exemption', customer, reason, ticket, until, revoked, source FROM exemption", 7);
    table("SELECT 'revision', number FROM revision", 2);
    table("SELECT 'change', revision, item, object, before, after FROM change", 6);
    return text;
}

struct Import {
    ImportOptions options;
    std::string source = "import";
    Import& csv(std::optional<What> what = {}) {
        options.format = Format::csv;
        options.what = what;
        return *this;
    }
    Import& replace(const std::string& name, std::optional<What> what = {}) {
        options.replace = true;
        options.what = what;
        source = name;
        return *this;
    }
    /// Commits, and says "added/changed/unchanged/skipped/removed".
    std::string run(Database& database, const std::string& text) const {
        std::istringstream in(text);
        std::optional<Change> change;
        const ImportCounts counts = import_records(
            [&]() -> Change& {
                change.emplace(database, alice, "import", std::nullopt, source);
                return *change;
            },
            database, in, source, options);
        if (change) change->commit();
        return fmt::format("{}/{}/{}/{}/{}", counts.added, counts.changed, counts.unchanged, counts.skipped,
                           counts.removed);
    }
    /// What refuses the file, and that it left no trace.
    std::string refused(Database& database, const std::string& text) const {
        const std::string before = dump(database);
        const std::string result = refusal([&] { run(database, text); });
        CHECK(dump(database) == before);
        return result;
    }
};

inline Import upsert() { return {}; }
inline Import replace(const std::string& source, std::optional<What> what = {}) {
    return Import().replace(source, what);
}

inline std::string assign_line(const std::string& customer, const std::string& prefix, const std::string& more = "") {
    return fmt::format(R"({{"op":"assign","customer":"{}","prefix":"{}"{}}})", customer, prefix, more) + "\n";
}
inline std::string exempt_line(const std::string& customer, const std::string& more = "") {
    return fmt::format(R"({{"op":"exempt","customer":"{}","reason":"mail server"{}}})", customer, more) + "\n";
}
inline std::string in_days(int days) { return format_instant(now() + std::chrono::days{days}); }
inline std::string until(const std::string& time) { return fmt::format(R"(,"until":"{}")", time); }

/// "prefix customer source" for each, by prefix.
inline std::string assignments(Database& database) {
    std::string text;
    each_assignment(database, {}, now(), [&](const Assignment& a) {
        text += fmt::format("{} {} {}\n", a.prefix.short_text(), a.customer, a.source);
    });
    return text;
}

inline bool exempt(Database& database, const std::string& customer) {
    const auto held = exemption(database, customer);
    return held && held->active(now());
}

}  // namespace smtpfence
