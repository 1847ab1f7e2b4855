#include "subscribers/import.hpp"

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <sstream>

#include "scratch.hpp"
#include "subscribers/audit.hpp"

using namespace smtpfence;

namespace {

using Catch::Contains;
using Catch::StartsWith;

/// Everything that a table of the database holds, as text.
std::string dump(Database& database) {
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

Import upsert() { return {}; }
Import replace(const std::string& source, std::optional<What> what = {}) { return Import().replace(source, what); }

std::string assign_line(const std::string& customer, const std::string& prefix, const std::string& more = "") {
    return fmt::format(R"({{"op":"assign","customer":"{}","prefix":"{}"{}}})", customer, prefix, more) + "\n";
}
std::string exempt_line(const std::string& customer, const std::string& more = "") {
    return fmt::format(R"({{"op":"exempt","customer":"{}","reason":"mail server"{}}})", customer, more) + "\n";
}
std::string in_days(int days) { return format_instant(now() + std::chrono::days{days}); }
std::string until(const std::string& time) { return fmt::format(R"(,"until":"{}")", time); }

/// "prefix customer source" for each, by prefix.
std::string assignments(Database& database) {
    std::string text;
    each_assignment(database, {}, now(), [&](const Assignment& a) {
        text += fmt::format("{} {} {}\n", a.prefix.short_text(), a.customer, a.source);
    });
    return text;
}

bool exempt(Database& database, const std::string& customer) {
    const auto held = exemption(database, customer);
    return held && held->active(now());
}

}  // namespace

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
    CHECK_THAT(after_good(assign_line("c9", "100.64.9.9", until("2020-01-01T00:00:00Z"))),
               StartsWith("invalid: line 4: 100.64.9.9/32 for customer 'c9': its end"));
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
    CHECK_THAT(after_good(exempt_line("c1", until("2020-01-01T00:00:00Z"))), StartsWith("invalid: line 4: "));
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

TEST_CASE("import: CSV with a header, CRLF, a byte order mark and quotes; lines are physical ones") {
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

TEST_CASE("import: replace makes the source's rows what the file says, in any order of lines") {
    ScratchDatabase database;
    upsert().run(*database, assign_line("other", "100.64.9.9"));
    replace("crm").run(*database, assign_line("c1", "100.64.3.1") + assign_line("c2", "100.64.3.2") +
                                      assign_line("c3", "100.64.4.0/24") + assign_line("c4", "100.64.3.4"));
    // c1 and c2 swap, c3's subnet is split among others, c4 leaves.
    std::vector<std::string> lines = {assign_line("c2", "100.64.3.1"), assign_line("c1", "100.64.3.2"),
                                      assign_line("c5", "100.64.4.0/25"), assign_line("c6", "100.64.4.128/25")};
    if (GENERATE(false, true)) std::reverse(lines.begin(), lines.end());
    std::string file;
    for (const std::string& line : lines) file += line;
    CHECK(replace("crm").run(*database, file) == "2/2/0/0/2");
    CHECK(assignments(*database) ==
          "100.64.3.1 c2 crm\n100.64.3.2 c1 crm\n100.64.4.0/25 c5 crm\n100.64.4.128/25 c6 crm\n"
          "100.64.9.9 other import\n");
    const std::string before = dump(*database);
    CHECK(replace("crm").run(*database, file) == "0/0/4/0/0");
    CHECK(dump(*database) == before);
}

TEST_CASE("import: replace takes what is left out at its default") {
    ScratchDatabase database;
    const std::string relay = R"({"op":"relay","prefix":"203.0.113.10")";
    replace("crm").run(*database, assign_line("c1", "100.64.3.1", until("2100-01-01T00:00:00Z")) +
                                      R"({"op":"pool","prefix":"100.64.0.0/10","name":"n","action":"pass"})"
                                      "\n" +
                                      relay + R"(,"note":"mx"})");
    CHECK(replace("crm").run(*database, assign_line("c1", "100.64.3.1") +
                                            R"({"op":"pool","prefix":"100.64.0.0/10"})"
                                            "\n" +
                                            relay + "}") == "0/3/0/0/0");
    each_assignment(*database, {}, now(), [](const Assignment& a) { CHECK_FALSE(a.until); });
    CHECK(pools(*database) == std::vector<Pool>{{"100.64.0.0/10"_p, {}, Action::drop, "crm"}});
    CHECK(relays(*database) == std::vector<Relay>{{"203.0.113.10"_p, {}, "crm"}});
}

TEST_CASE("import: replace removes all that its source's file leaves out, or one kind of it") {
    ScratchDatabase database;
    const std::string relay1 = R"({"op":"relay","prefix":"203.0.113.1"})"
                               "\n";
    const std::string relay2 = R"({"op":"relay","prefix":"203.0.113.2"})"
                               "\n";
    const std::string pool = R"({"op":"pool","prefix":"100.64.0.0/10"})"
                             "\n";
    upsert().run(*database, exempt_line("c9") + R"({"op":"pool","prefix":"100.64.9.0/24"})"
                                                "\n");
    replace("crm").run(*database, relay1 + pool + assign_line("c1", "100.64.3.1") + exempt_line("c1"));

    CHECK(replace("crm", What::assignments).run(*database, assign_line("c2", "100.64.3.2")) == "1/0/0/0/1");
    CHECK(pools(*database).size() == 2);
    CHECK(relays(*database).size() == 1);
    CHECK(exempt(*database, "c1"));
    CHECK(replace("crm", What::exemptions).run(*database, exempt_line("c2")) == "1/0/0/0/1");
    CHECK_FALSE(exempt(*database, "c1"));
    CHECK(exemption(*database, "c1")->revoke_reason == "no longer in the file of source crm");
    CHECK(exempt(*database, "c9"));
    // The last relay of a fence may be exchanged, but not taken away.
    CHECK(replace("crm", What::relays).run(*database, relay2) == "1/0/0/0/1");
    CHECK(replace("crm", What::pools).run(*database, R"({"op":"pool","prefix":"100.65.0.0/24"})") == "1/0/0/0/1");
    CHECK(assignments(*database) == "100.64.3.2 c2 crm\n");
    const std::string file = assign_line("c3", "100.64.3.3");
    CHECK_THAT(replace("crm").refused(*database, file), StartsWith("conflict: relay 203.0.113.2/32 is the last one") &&
                                                            Contains("source 'crm'") && Contains("--what"));

    upsert().run(*database, R"({"op":"relay","prefix":"203.0.113.9"})");
    CHECK(replace("crm").run(*database, file) == "1/0/0/0/4");
    CHECK(assignments(*database) == "100.64.3.3 c3 crm\n");
    CHECK_FALSE(exempt(*database, "c2"));
    CHECK(exempt(*database, "c9"));
    CHECK(relays(*database) == std::vector<Relay>{{"203.0.113.9"_p, {}, "import"}});
    CHECK(pools(*database) == std::vector<Pool>{{"100.64.9.0/24"_p, {}, Action::drop, "import"}});
}

TEST_CASE("import: replace takes the last relay away together with the fence") {
    ScratchDatabase database;
    replace("crm").run(*database, R"({"op":"relay","prefix":"203.0.113.1"})"
                                  "\n"
                                  R"({"op":"pool","prefix":"100.64.0.0/10"})"
                                  "\n");
    CHECK(replace("crm").run(*database, assign_line("c1", "100.64.3.1")) == "1/0/0/0/2");
    CHECK(relays(*database).empty());
}

TEST_CASE("import: replace refuses an empty file unless it is meant") {
    ScratchDatabase database;
    const std::string pool = R"({"op":"pool","prefix":"100.64.0.0/10","action":"observe"})"
                             "\n";
    replace("crm").run(*database, pool + assign_line("c1", "100.64.3.1") + exempt_line("c1"));
    CHECK_THAT(replace("crm").refused(*database, "\n"),
               StartsWith("conflict: the file has no records") && Contains("--confirm"));
    CHECK_THAT(replace("crm").csv().refused(*database, "op,prefix\n"), StartsWith("conflict: the file has no records"));
    Import meant = replace("crm", What::assignments);
    meant.options.allow_empty = true;
    CHECK(meant.run(*database, "") == "0/0/0/0/1");
    CHECK(pools(*database).size() == 1);
    meant.options.what = {};
    CHECK(meant.run(*database, "") == "0/0/0/0/2");
    CHECK(pools(*database).empty());
    CHECK_FALSE(exempt(*database, "c1"));
    CHECK(upsert().run(*database, "") == "0/0/0/0/0");
}

TEST_CASE("import: replace finds what contradicts itself, and what belongs to another source") {
    ScratchDatabase database;
    upsert().run(*database, assign_line("c1", "100.64.3.1") +
                                R"({"op":"pool","prefix":"100.64.0.0/10"})"
                                "\n" +
                                R"({"op":"relay","prefix":"203.0.113.1"})"
                                "\n" +
                                exempt_line("c1"));
    replace("crm").run(*database, assign_line("c7", "100.64.7.7"));
    const std::string good = assign_line("c8", "100.64.8.8");
    const auto refused = [&](const std::string& lines) { return replace("crm").refused(*database, good + lines); };

    CHECK_THAT(refused(assign_line("c9", "100.64.8.8")),
               StartsWith("conflict: line 2: 100.64.8.8/32 of customer 'c9' overlaps 100.64.8.8/32 of customer 'c8' on "
                          "line 1"));
    CHECK_THAT(refused(assign_line("c9", "100.64.8.0/24")), StartsWith("conflict: line 2: 100.64.8.0/24 of customer"));
    CHECK_THAT(refused(assign_line("c8", "100.64.8.0/24") + assign_line("c9", "100.64.8.9")),
               StartsWith("conflict: line 3: 100.64.8.9/32 of customer 'c9' overlaps 100.64.8.0/24"));
    CHECK_THAT(refused(assign_line("c8", "100.64.8.8", until("2100-01-01T00:00:00Z"))),
               StartsWith("conflict: line 2: line 1 says otherwise about 100.64.8.8/32"));
    CHECK_THAT(refused(R"({"op":"pool","prefix":"100.65.0.0/16"})"
                       "\n"
                       R"({"op":"pool","prefix":"100.65.0.0/16","action":"pass"})"
                       "\n"),
               StartsWith("conflict: line 3: line 2 says otherwise about 100.65.0.0/16"));
    CHECK_THAT(refused(exempt_line("c2") + exempt_line("c2", R"(,"ticket":"T")")),
               StartsWith("conflict: line 3: line 2 says otherwise about customer 'c2'"));
    CHECK_THAT(refused(R"({"op":"release","prefix":"100.64.7.7"})"),
               StartsWith("invalid: line 2: release has no place"));
    CHECK_THAT(refused(R"({"op":"revoke","customer":"c1","reason":"r"})"),
               StartsWith("invalid: line 2: revoke has no"));

    CHECK_THAT(refused(assign_line("c1", "100.64.3.1")),
               StartsWith("conflict: line 2: 100.64.3.1/32 of customer 'c1' belongs to source 'import'"));
    CHECK_THAT(refused(assign_line("c9", "100.64.3.1")),
               StartsWith("conflict: line 2: 100.64.3.1/32 of customer 'c1' belongs to source 'import'"));
    CHECK_THAT(refused(assign_line("c9", "100.64.3.0/24")), StartsWith("conflict: line 2: 100.64.3.1/32 is held by"));
    CHECK_THAT(refused(R"({"op":"pool","prefix":"100.64.0.0/10"})"),
               StartsWith("conflict: line 2: pool 100.64.0.0/10"));
    CHECK_THAT(refused(R"({"op":"relay","prefix":"203.0.113.1"})"),
               StartsWith("conflict: line 2: relay 203.0.113.1/32"));
    CHECK_THAT(refused(exempt_line("c1", R"(,"ticket":"T")")),
               StartsWith("conflict: line 2: the exemption of customer 'c1' belongs to source 'import'"));
    CHECK_THAT(refused(assign_line("c9", "100.64.9.9", until("2020-01-01T00:00:00Z"))),
               StartsWith("invalid: line 2: "));

    CHECK(replace("crm").run(*database, good + good + assign_line("c9", "100.64.3.1", ",\"take\":true") +
                                            exempt_line("c1")) == "1/1/2/0/1");
    CHECK(assignments(*database) == "100.64.3.1 c9 crm\n100.64.8.8 c8 crm\n");
}

TEST_CASE("import: replace locks the database only when the whole file was read") {
    ScratchDatabase database;
    replace("crm").run(*database, assign_line("c1", "100.64.3.1"));
    std::istringstream in(assign_line("c1", "100.64.3.2"));
    ImportOptions options;
    options.replace = true;
    std::optional<Change> change;
    import_records(
        [&]() -> Change& {
            CHECK(in.eof());
            const auto other = database.open();
            committed(*other, [](Change& desk) { assign(desk, "c5", "100.64.5.5"_p, {}, false); });
            change.emplace(*database, alice, "import", std::nullopt, "crm");
            return *change;
        },
        *database, in, "crm", options);
    change->commit();
    CHECK(assignments(*database) == "100.64.3.2 c1 crm\n100.64.5.5 c5 manual\n");
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

TEST_CASE("import: random final states are reached from any state by replace") {
    ScratchDatabase database;
    std::mt19937 random(26);
    for (int round = 0; round < 60; ++round) {
        std::map<Prefix, std::string> wanted;
        for (auto n = 1 + random() % 10; n > 0; --n) {
            const auto length = static_cast<uint8_t>(28 + random() % 5);
            const Prefix prefix = Prefix(Family::v4, {100, 64, 0, static_cast<uint8_t>(random() % 64)}, length);
            const std::string customer = fmt::format("c{}", random() % 4);
            const bool free = std::all_of(wanted.begin(), wanted.end(), [&](const auto& row) {
                return row.second == customer || !row.first.overlaps(prefix);
            });
            if (free) wanted[prefix] = customer;
        }
        std::vector<std::string> lines;
        for (const auto& [prefix, customer] : wanted) lines.push_back(assign_line(customer, prefix.text()));
        std::shuffle(lines.begin(), lines.end(), random);
        std::string file;
        for (const std::string& line : lines) file += line;
        CAPTURE(round, file);
        replace("crm").run(*database, file);
        std::map<Prefix, std::string> held;
        each_assignment(*database, {}, now(), [&](const Assignment& a) { held[a.prefix] = a.customer; });
        CHECK(held == wanted);
        const std::string before = dump(*database);
        replace("crm").run(*database, file);
        CHECK(dump(*database) == before);
    }
}
