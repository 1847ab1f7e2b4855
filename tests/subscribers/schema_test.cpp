#include "subscribers/schema.hpp"

#include "scratch.hpp"
#include "subscribers/customer.hpp"
#include "subscribers/fenced.hpp"
#include "subscribers/router.hpp"

using namespace smtpfence;

TEST_CASE("schema: migrate makes the tables once") {
    const auto database = open_database("sqlite::memory:", OpenMode::create);
    CHECK(database->schema_version() == 0);
    const Migration first = migrate(*database);
    CHECK(first.from == 0);
    CHECK(first.to == schema_version);
    const Migration second = migrate(*database);
    CHECK(second.from == schema_version);
    CHECK(second.to == schema_version);
    CHECK(current_revision(*database) == 0);
}

TEST_CASE("schema: what was confirmed before there were digests stays confirmed") {
    ScratchDatabase database;
    committed(*database, [](Change& change) { add_pool(change, "100.64.0.0/16"_p, {}, Action::pass); });
    database->query("DROP TABLE confirmation", {});
    database->query(
        "CREATE TABLE confirmation (revision INTEGER NOT NULL PRIMARY KEY REFERENCES revision, openings TEXT NOT NULL)"
        " STRICT",
        {});
    database->query("INSERT INTO confirmation VALUES (1, 'release 100.64.0.0/16\n')", {});
    database->set_schema_version(2);
    CHECK(migrate(*database).from == 2);
    CHECK(confirmed_digests(*database, 0) == std::vector<std::string>{""});
    std::string lines;
    confirmed_openings(*database, 0, [&](std::string_view some) { lines += some; });
    CHECK(lines == "release 100.64.0.0/16\n");
}

TEST_CASE("schema: a newer database is refused and left alone") {
    ScratchDatabase database;
    database->set_schema_version(schema_version + 1);
    CHECK_THAT(failure([&] { migrate(*database); }),
               Catch::StartsWith("schema: ") && Catch::Contains("update smtpfence"));
    CHECK(database->schema_version() == schema_version + 1);
    CHECK_THAT(failure([&] { database.open(); }), Catch::StartsWith("schema: ") && Catch::Contains("update smtpfence"));
}

TEST_CASE("schema: every table is strict") {
    ScratchDatabase database;
    std::string lax;
    int64_t tables = 0;
    database->query("SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%'", {},
                    [&](const Row& row) {
                        ++tables;
                        if (row.integer(1) == 0) lax += std::string(row.text(0)) + " ";
                    });
    CHECK(lax.empty());
    CHECK(tables >= 13);
}

TEST_CASE("schema: the audit log is append-only") {
    ScratchDatabase database;
    committed(*database, [](Change& change) { add_pool(change, "100.64.0.0/10"_p, {}, Action::drop); });
    for (const char* sql :
         {"UPDATE revision SET login = 'mallory'", "DELETE FROM revision", "UPDATE change SET after = NULL",
          "DELETE FROM change",
          "INSERT OR REPLACE INTO revision SELECT 1, time, 'mallory', operator, host, command, reason,"
          " source FROM revision",
          "INSERT OR REPLACE INTO change SELECT revision, item, object, customer, first, length, before,"
          " NULL FROM change"}) {
        CAPTURE(sql);
        CHECK_THAT(failure([&] { database->query(sql, {}); }), Catch::Contains("append-only"));
    }
    std::string login;
    database->query("SELECT login FROM revision", {}, [&](const Row& row) { login = row.text(0); });
    CHECK(login == "root");
}

TEST_CASE("schema: foreign keys and actions are checked by the engine too") {
    ScratchDatabase database;
    CHECK_THAT(failure([&] {
                   database->query("INSERT INTO assignment VALUES ($1, 32, 'nobody', 0, NULL, 'manual')",
                                   {bytes("100.64.3.7"_p.first_key())});
               }),
               Catch::Contains("FOREIGN KEY"));
    CHECK_THAT(failure([&] {
                   database->query("INSERT INTO pool VALUES ($1, 32, NULL, 'open', 'manual')",
                                   {bytes("100.64.3.7"_p.first_key())});
               }),
               Catch::Contains("CHECK"));
}
