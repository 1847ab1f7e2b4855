#include "import_run.hpp"

using namespace smtpfence;

static std::string over_assign(const std::string& customer, const std::string& prefix, const std::string& more = "") {
    return assign_line(customer, prefix, until("2020-01-01T00:00:00Z") + more);
}
static std::string over_exempt(const std::string& customer) {
    return exempt_line(customer, until("2020-01-01T00:00:00Z"));
}
static std::optional<Instant> end_of(Database& database, const Prefix& prefix) {
    const auto held = holder(database, prefix, now());
    return held ? held->until : std::nullopt;
}

TEST_CASE("record_writer: a record that is over is skipped, and the rest of the file is written") {
    ScratchDatabase database;
    const auto import = GENERATE(as<bool>(), false, true) ? upsert() : replace("import");
    CHECK(import.run(*database, over_assign("c1", "100.64.3.1") + assign_line("c2", "100.64.3.2") + over_exempt("c3") +
                                    exempt_line("c2")) == "2/0/0/2/0");
    CHECK(assignments(*database) == "100.64.3.2 c2 import\n");
    CHECK_FALSE(customer_exists(*database, "c1"));
    CHECK_FALSE(customer_exists(*database, "c3"));
}

TEST_CASE("record_writer: a file that was imported before its leases ended is imported again") {
    ScratchDatabase database;
    const auto import = GENERATE(as<bool>(), false, true) ? upsert() : replace("import");
    const std::string file = assign_line("c1", "100.64.3.1", until(in_days(1))) + assign_line("c2", "100.64.3.2") +
                             exempt_line("c1", until(in_days(1)));
    CHECK(import.run(*database, file) == "3/0/0/0/0");
    let_pass(*database, std::chrono::days{2});
    const std::string later = over_assign("c1", "100.64.3.1") + assign_line("c2", "100.64.3.2") + over_exempt("c1");
    const std::string before = dump(*database);
    CHECK(import.run(*database, later) == "0/0/1/2/0");
    CHECK(dump(*database) == before);
}

TEST_CASE("record_writer: a right that its source calls over is ended") {
    ScratchDatabase database;
    const auto import = GENERATE(as<bool>(), false, true) ? upsert() : replace("import");
    const std::string file = assign_line("c1", "100.64.3.1") + assign_line("c2", "100.64.3.2", until(in_days(1))) +
                             assign_line("c3", "100.64.3.3");
    import.run(*database, file + exempt_line("c1"));
    const std::string over = over_assign("c1", "100.64.3.1") + over_assign("c2", "100.64.3.2") +
                             assign_line("c3", "100.64.3.3") + over_exempt("c1");
    import.run(*database, over);
    CHECK(assignments(*database) == "100.64.3.3 c3 import\n");
    CHECK_FALSE(exempt(*database, "c1"));
    const std::string before = dump(*database);
    CHECK(import.run(*database, over) == "0/0/1/3/0");
    CHECK(dump(*database) == before);
    // Its source may give it anew, with another end.
    import.run(*database, file + exempt_line("c1", until(in_days(9))));
    CHECK(exempt(*database, "c1"));
}

TEST_CASE("record_writer: what is over ends and extends nothing that others gave") {
    ScratchDatabase database;
    const auto import = GENERATE(as<bool>(), false, true) ? upsert() : replace("import");
    committed(*database, [](Change& change) {
        assign(change, "c1", "100.64.3.1"_p, {}, false);
        grant_exemption(change, {"c1", "own server", {}, {}, std::chrono::days{9}, {}});
    });
    import.run(*database, assign_line("c2", "100.64.3.2", until(in_days(5))));
    const auto end = end_of(*database, "100.64.3.2"_p);
    const std::string kept = assign_line("c2", "100.64.3.2", until(format_instant(*end)));
    const std::string before = dump(*database);
    // Not the desk's, not another customer's with "take", not one that is wider.
    CHECK(import.run(*database, kept + over_assign("c1", "100.64.3.1") +
                                    over_assign("c9", "100.64.3.1", R"(,"take":true)") +
                                    over_assign("c2", "100.64.3.2/31") + over_exempt("c1")) == "0/0/1/4/0");
    CHECK(dump(*database) == before);
}

TEST_CASE("record_writer: a lease that is over and the one that follows it stand in one file") {
    ScratchDatabase database;
    const auto import = GENERATE(as<bool>(), false, true) ? upsert() : replace("import");
    import.run(*database, assign_line("c1", "100.64.3.1"));
    const std::string file = over_assign("c1", "100.64.3.1") + assign_line("c2", "100.64.3.1");
    import.run(*database, file);
    CHECK(assignments(*database) == "100.64.3.1 c2 import\n");
    const std::string before = dump(*database);
    CHECK(import.run(*database, file) == "0/0/1/1/0");
    CHECK(dump(*database) == before);
}

TEST_CASE("record_writer: a release that comes late leaves the next holder what he holds") {
    ScratchDatabase database;
    const std::string next = assign_line("c1", "100.64.3.1") + assign_line("c2", "100.64.3.1", R"(,"take":true)");
    const auto late = [](const std::string& customer) {
        return fmt::format(R"({{"op":"release","prefix":"100.64.3.1","customer":"{}"}})", customer) + "\n";
    };
    upsert().run(*database, next);
    const std::string before = dump(*database);
    CHECK(upsert().run(*database, late("c1")) == "0/0/1/0/0");
    CHECK(upsert().csv().run(*database, "op,customer,prefix\nrelease,c1,100.64.3.1\n") == "0/0/1/0/0");
    CHECK(dump(*database) == before);
    CHECK(upsert().run(*database, late("c2")) == "0/0/0/0/1");
    CHECK(upsert().run(*database, late("c2")) == "0/0/1/0/0");
    CHECK(assignments(*database).empty());
    upsert().run(*database, next);
    CHECK(upsert().run(*database, R"({"op":"release","prefix":"100.64.3.1"})") == "0/0/0/0/1");
}
