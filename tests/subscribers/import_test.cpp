#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <map>
#include <random>

#include "import_run.hpp"
#include "subscribers/audit.hpp"

using namespace smtpfence;
using Catch::Contains;
using Catch::StartsWith;

TEST_CASE("import: every op in one file is one revision") {
    ScratchDatabase database;
    CHECK(upsert().run(*database, R"({"op":"relay","prefix":"203.0.113.10","note":"mx"})"
                                  "\n\n"
                                  R"({"op":"pool","prefix":"100.64.0.0/10","name":"north","action":"reject"})"
                                  "\n" +
                                      assign_line("c1", "100.64.3.7") + assign_line("c2", "2001:db8:7::/56") +
                                      exempt_line("c1", R"(,"ticket":"T-1")")) == "5/0/0/0/0");
    CHECK(current_revision(*database) == 1);
    CHECK(relays(*database) == std::vector<Relay>{{"203.0.113.10"_p, "mx", "import"}});
    CHECK(pools(*database) == std::vector<Pool>{{"100.64.0.0/10"_p, "north", Action::reject, "import"}});
    CHECK(assignments(*database) == "100.64.3.7 c1 import\n2001:db8:7::/56 c2 import\n");
    const auto granted = exemption(*database, "c1").value();
    CHECK(granted.ticket == "T-1");
    CHECK(granted.until - granted.since == std::chrono::days{365});
    CHECK(upsert().run(*database, R"({"op":"release","prefix":"2001:db8:7::/56"})"
                                  "\n"
                                  R"({"op":"release","prefix":"2001:db8:7::/56"})"
                                  "\n"
                                  R"({"op":"revoke","customer":"c1","reason":"abuse"})"
                                  "\n"
                                  R"({"op":"revoke","customer":"c2","reason":"abuse"})") == "0/0/2/0/2");
    CHECK_FALSE(exempt(*database, "c1"));
}

TEST_CASE("import: the same file again writes nothing, and rows keep their source") {
    ScratchDatabase database;
    committed(*database, [](Change& change) { assign(change, "c1", "100.64.3.7"_p, {}, false); });
    const std::string file = assign_line("c1", "100.64.3.7") + assign_line("c2", "100.64.3.8", until(in_days(9))) +
                             exempt_line("c2") +
                             R"({"op":"pool","prefix":"100.64.0.0/10"})"
                             "\n";
    CHECK(upsert().run(*database, file) == "3/0/1/0/0");
    const std::string before = dump(*database);
    CHECK(upsert().run(*database, file) == "0/0/4/0/0");
    CHECK(dump(*database) == before);
    CHECK_THAT(assignments(*database), StartsWith("100.64.3.7 c1 manual\n"));
}

TEST_CASE("import: what a key leaves out stays, what it states is written") {
    ScratchDatabase database;
    upsert().run(*database, R"({"op":"pool","prefix":"100.64.0.0/10","name":"north","action":"observe"})"
                            "\n"
                            R"({"op":"relay","prefix":"203.0.113.10","note":"mx"})"
                            "\n" +
                                assign_line("c1", "100.64.3.7", until("2100-01-01T00:00:00Z")));
    CHECK(upsert().run(*database, R"({"op":"pool","prefix":"100.64.0.0/10"})"
                                  "\n"
                                  R"({"op":"relay","prefix":"203.0.113.10"})"
                                  "\n" +
                                      assign_line("c1", "100.64.3.7")) == "0/0/3/0/0");
    CHECK(upsert().run(*database, R"({"op":"pool","prefix":"100.64.0.0/10","action":"drop"})"
                                  "\n"
                                  R"({"op":"relay","prefix":"203.0.113.10","note":"mx-2"})"
                                  "\n" +
                                      assign_line("c1", "100.64.3.7", until("2100-01-02T00:00:00Z"))) == "0/3/0/0/0");
    CHECK(pools(*database) == std::vector<Pool>{{"100.64.0.0/10"_p, "north", Action::drop, "import"}});
    CHECK(relays(*database) == std::vector<Relay>{{"203.0.113.10"_p, "mx-2", "import"}});
}

TEST_CASE("import: take ends what others hold inside, and nothing wider") {
    ScratchDatabase database;
    upsert().run(*database, assign_line("c1", "100.64.3.7") + assign_line("c2", "100.64.4.0/24") +
                                assign_line("c3", "100.64.5.1") + assign_line("c4", "100.64.5.2"));
    CHECK_THAT(upsert().refused(*database, assign_line("c9", "100.64.3.7")),
               StartsWith("conflict: line 1: 100.64.3.7/32 is held by customer 'c1'") && Contains("\"take\":true"));
    CHECK_THAT(upsert().refused(*database, assign_line("c9", "100.64.4.1", ",\"take\":true")),
               StartsWith("conflict: line 1: 100.64.4.1/32 lies inside 100.64.4.0/24"));
    CHECK(upsert().run(*database, assign_line("c9", "100.64.3.7", ",\"take\":true") +
                                      assign_line("c9", "100.64.5.0/24", ",\"take\":true")) == "1/1/0/0/2");
    CHECK(assignments(*database) == "100.64.3.7 c9 import\n100.64.4.0/24 c2 import\n100.64.5.0/24 c9 import\n");
}

TEST_CASE("import: every bad line is named with its number and leaves nothing written") {
    ScratchDatabase database;
    upsert().run(*database, assign_line("c1", "100.64.3.7") + R"({"op":"relay","prefix":"203.0.113.10"})"
                                                              "\n");
    const std::string good = assign_line("c8", "100.64.8.8") + "\n" +
                             R"({"op":"pool","prefix":"100.64.0.0/10"})"
                             "\n";
    const auto after_good = [&](const std::string& line) { return upsert().refused(*database, good + line + "\n"); };
    using namespace std::string_literals;

    CHECK_THAT(after_good(assign_line("c9", "100.64.9.9/24")), StartsWith("invalid: line 4: "));
    CHECK_THAT(after_good(assign_line("c9", "100.64.9.9/33")), StartsWith("invalid: line 4: "));
    CHECK_THAT(after_good(assign_line("c9", "::ffff:100.64.9.9")), StartsWith("invalid: line 4: "));
    CHECK_THAT(after_good(assign_line("c9", "100.64.3.7")), StartsWith("conflict: line 4: "));
    CHECK_THAT(after_good(assign_line("c9", "100.64.8.0/24")), StartsWith("conflict: line 4: "));
    CHECK_THAT(after_good(assign_line("c9", "100.64.9.9", until("2100-01-01T00:00:00"))),
               StartsWith("invalid: line 4: "));
    CHECK_THAT(after_good(assign_line("c9", "100.64.9.9", R"(,"colour":"red")")),
               StartsWith("invalid: line 4: unknown key 'colour'"));
    CHECK_THAT(after_good(R"({"op":"pool","prefix":"100.64.0.0/10","action":"reject"})"),
               StartsWith("conflict: line 4: line 3 says otherwise about 100.64.0.0/10"));
    CHECK_THAT(after_good(R"({"op":"pool","prefix":"0.0.0.0/0"})"), StartsWith("invalid: line 4: "));
    CHECK_THAT(after_good(R"({"op":"relay","prefix":"203.0.0.0/16"})"), StartsWith("invalid: line 4: "));
    CHECK_THAT(after_good(R"({"op":"revoke","customer":"c7","reason":"r"})"),
               StartsWith("not found: line 4: unknown customer 'c7'"));
    CHECK_THAT(after_good("{\"op\":\"revoke\",\"customer\":\"c\xff\",\"reason\":\"r\"}"),
               StartsWith("invalid: line 4: invalid UTF-8"));
    CHECK_THAT(after_good("{}\0"s), StartsWith("invalid: line 4: a NUL byte"));
    CHECK_THAT(after_good(std::string(1'000'000, ' ')), StartsWith("invalid: line 4: longer than 65536 bytes"));
    CHECK_THAT(after_good("op,customer"), StartsWith("invalid: line 4: not valid JSON"));
    CHECK_THAT(after_good("[]"), StartsWith("invalid: line 4: "));
}

TEST_CASE("import: a file that ends inside a line is called truncated, a complete last line needs no line break") {
    ScratchDatabase database;
    const std::string file = assign_line("c1", "100.64.3.7") + assign_line("c2", "100.64.3.8");
    for (size_t missing = 2; missing < 40; ++missing) {
        CHECK_THAT(upsert().refused(*database, file.substr(0, file.size() - missing)),
                   StartsWith("invalid: line 2: ") && Contains("truncated"));
    }
    CHECK_THAT(upsert().refused(*database, "{\"op\":\n"), !Contains("truncated"));
    CHECK(upsert().run(*database, file.substr(0, file.size() - 1)) == "2/0/0/0/0");
}

TEST_CASE("import: CSV with a header, CRLF, a byte order mark and quotes, lines are physical ones") {
    ScratchDatabase database;
    CHECK(upsert().csv().run(*database,
                             "\xef\xbb\xbfop,customer,prefix,until\r\n"
                             "assign,\"Smith, \"\"J\"\"\",100.64.3.7,2100-01-01T00:00:00Z\r\n"
                             "\r\n"
                             "assign,Zoë,100.64.3.8,\r\n"
                             "release,,100.64.3.9,\r\n") == "2/0/1/0/0");
    CHECK(assignments(*database) == "100.64.3.7 Smith, \"J\" import\n100.64.3.8 Zoë import\n");
    CHECK(upsert().csv(What::assignments).run(*database, "prefix,customer\n100.64.3.9,c3\n") == "1/0/0/0/0");
    const auto refused = [&](const std::string& text, std::optional<What> what = {}) {
        return upsert().csv(what).refused(*database, text);
    };
    CHECK_THAT(refused("op,customer,address\n"), StartsWith("invalid: line 1: wrong header: unknown column 'address'"));
    CHECK_THAT(refused("\n\ncustomer,prefix\n"), StartsWith("invalid: line 3: wrong header: no column op"));
    CHECK_THAT(refused("customer\nc1\n", What::assignments), StartsWith("invalid: line 1: wrong header"));
    CHECK_THAT(refused("op,customer,prefix\nassign,c1,100.64.3.7,\n"), StartsWith("invalid: line 2: 4 fields"));
    CHECK_THAT(refused("op,customer,prefix\n\nassign,\"c\n1\",100.64.3.7\n"),
               StartsWith("invalid: line 3: the quotes of field 2"));
    CHECK_THAT(refused("op,customer,prefix\nassign,c5"), Contains("line 2") && Contains("truncated"));
    CHECK_THAT(refused("op,customer,prefix,reason\nassign,c5,100.64.5.5,why\n"),
               StartsWith("invalid: line 2: assign has no reason"));
}

TEST_CASE("import: an exempt record moves no expiry without an until of its own") {
    ScratchDatabase database;
    CHECK(upsert().run(*database, exempt_line("c1", until("2100-01-01T00:00:00Z"))) == "1/0/0/0/0");
    CHECK(upsert().run(*database, exempt_line("c1")) == "0/0/1/0/0");
    CHECK(exemption(*database, "c1")->until == parse_instant("2100-01-01T00:00:00Z"));
    CHECK(upsert().run(*database, exempt_line("c1", R"(,"ticket":"T-2")")) == "0/1/0/0/0");
    CHECK(exemption(*database, "c1")->until == parse_instant("2100-01-01T00:00:00Z"));
    CHECK(exemption(*database, "c1")->ticket == "T-2");
    CHECK(upsert().run(*database, exempt_line("c1", until("2100-02-01T00:00:00Z"))) == "0/1/0/0/0");
    CHECK(exemption(*database, "c1")->until == parse_instant("2100-02-01T00:00:00Z"));
    CHECK(exemption(*database, "c1")->ticket == "T-2");
}

TEST_CASE("import: a nightly file can't undo the desk") {
    ScratchDatabase database;
    const std::string nightly = exempt_line("c1", until("2100-01-01T00:00:00Z") + R"(,"ticket":"T-1")");
    const auto import = GENERATE(as<bool>(), false, true) ? upsert() : replace("crm");
    CHECK(import.run(*database, nightly) == "1/0/0/0/0");

    SECTION("a revocation stays") {
        committed(*database, [](Change& change) { revoke_exemption(change, "c1", "abuse"); });
        CHECK(import.run(*database, nightly) == "0/0/0/1/0");
        CHECK(import.run(*database, exempt_line("c1")) == "0/0/0/1/0");
        CHECK_FALSE(exempt(*database, "c1"));
        SECTION("until the file has another ticket") {
            CHECK(import.run(*database, exempt_line("c1", R"(,"ticket":"T-2")")) == "1/0/0/0/0");
            CHECK(exempt(*database, "c1"));
        }
        SECTION("until the file has another until") {
            CHECK(import.run(*database, exempt_line("c1", until("2101-01-01T00:00:00Z"))) == "1/0/0/0/0");
            CHECK(exempt(*database, "c1"));
        }
    }
    SECTION("a renewal stays") {
        const Grant renewal{"c1", "renewed", "T-9", {}, {}, parse_instant("2105-01-01T00:00:00Z")};
        committed(*database, [&](Change& change) { renew_exemption(change, renewal); });
        CHECK(import.run(*database, nightly) == "0/0/0/1/0");
        CHECK(exemption(*database, "c1")->until == renewal.until);
        SECTION("and so does the revocation of what was renewed") {
            committed(*database, [](Change& change) { revoke_exemption(change, "c1", "abuse"); });
            CHECK(import.run(*database, nightly) == "0/0/0/1/0");
            CHECK_FALSE(exempt(*database, "c1"));
        }
    }
    SECTION("what ran out stays out") {
        database->query("UPDATE exemption SET until = $1", {to_number(now()) - 1});
        CHECK(import.run(*database, exempt_line("c1")) == "0/0/0/1/0");
        CHECK(import.run(*database, nightly) == "0/0/0/1/0");
    }
}

TEST_CASE("import: without a commit nothing is written (the dry run)") {
    ScratchDatabase database;
    upsert().run(*database, assign_line("c1", "100.64.3.1"));
    const std::string before = dump(*database);
    for (const bool replacing : {false, true}) {
        std::istringstream in(assign_line("c2", "100.64.3.2") + exempt_line("c3"));
        ImportOptions options;
        options.replace = replacing;
        std::optional<Change> change;
        const ImportCounts counts = import_records(
            [&]() -> Change& { return change.emplace(*database, alice, "import", std::nullopt, "import"); }, *database,
            in, "import", options);
        CHECK(counts.added == 2);
        CHECK(counts.removed == (replacing ? 1 : 0));
        change.reset();
        const auto other = database.open();
        CHECK(dump(*other) == before);
    }
}

TEST_CASE("import: reports its progress") {
    ScratchDatabase database;
    std::string file;
    for (int i = 0; i < 10'000; ++i) file += assign_line("c", fmt::format("100.64.{}.{}", i / 256, i % 256));
    Import import;
    std::vector<std::pair<int64_t, int64_t>> reports;
    import.options.progress = [&](int64_t bytes, int64_t records) { reports.emplace_back(bytes, records);
};
CHECK(import.run(*database, file) == "10000/0/0/0/0");
REQUIRE(reports.size() > 2);
CHECK(reports.back() == std::pair<int64_t, int64_t>(file.size(), 10'000));
CHECK(std::is_sorted(reports.begin(), reports.end()));
}

TEST_CASE("import: random files do what a simple model does") {
    // The model: a map of prefix to customer; assign fails on another customer's overlap unless it takes what is
    // inside.
    ScratchDatabase database;
    std::mt19937 random(25);
    std::map<Prefix, std::string> model;
    size_t refused_files = 0;
    for (int round = 0; round < 150; ++round) {
        std::map<Prefix, std::string> next = model;
        std::string file;
        int64_t bad_line = 0;
        const auto lines = static_cast<unsigned>(1 + random() % 12);
        for (unsigned n = 1; n <= lines; ++n) {
            const auto length = static_cast<uint8_t>(28 + random() % 5);
            const Prefix prefix = Prefix(Family::v4, {100, 64, 0, static_cast<uint8_t>(random() % 64)}, length);
            const std::string customer = fmt::format("c{}", random() % 4);
            const bool take = random() % 2 == 0;
            if (random() % 4 == 0) {
                file += fmt::format(R"({{"op":"release","prefix":"{}"}})", prefix.text()) + "\n";
                if (bad_line == 0) next.erase(prefix);
                continue;
            }
            file += assign_line(customer, prefix.text(), take ? ",\"take\":true" : "");
            if (bad_line != 0) continue;
            for (const auto& [held, who] : next) {
                const bool ours = who == customer || !held.overlaps(prefix);
                if (!ours && (!take || !prefix.contains(held))) bad_line = n;
            }
            if (bad_line != 0) continue;
            std::erase_if(next, [&](const auto& row) { return row.second != customer && prefix.contains(row.first); });
            next[prefix] = customer;
        }
        CAPTURE(round, file);
        if (bad_line != 0) {
            ++refused_files;
            CHECK_THAT(upsert().refused(*database, file), StartsWith(fmt::format("conflict: line {}: ", bad_line)));
        } else {
            upsert().run(*database, file);
            model = next;
        }
        std::map<Prefix, std::string> held;
        each_assignment(*database, {}, now(), [&](const Assignment& a) { held[a.prefix] = a.customer; });
        CHECK(held == model);
    }
    CHECK(refused_files > 20);
    CHECK(refused_files < 130);
}
