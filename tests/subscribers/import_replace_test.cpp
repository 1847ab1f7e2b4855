#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <map>
#include <random>

#include "import_run.hpp"

using namespace smtpfence;
using Catch::Contains;
using Catch::StartsWith;

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
    meant.options.allow_loss = true;
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
