#include "subscribers/export.hpp"

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <sstream>

#include "scratch.hpp"
#include "subscribers/import.hpp"

using namespace smtpfence;

namespace {

using Catch::Contains;

constexpr What every_what[] = {What::relays, What::pools, What::assignments, What::exemptions};

std::string exported(Database& database, What what, Format format, const std::optional<std::string>& source = {}) {
    std::ostringstream out;
    export_records(database, out, what, format, source, now());
    return out.str();
}

ImportCounts imported(Database& database, const std::string& text, Format format, const std::string& source,
                      std::optional<What> replaced = {}) {
    std::istringstream in(text);
    ImportOptions options;
    options.format = format;
    options.replace = replaced.has_value();
    options.what = replaced;
    std::optional<Change> change;
    const ImportCounts counts =
        import_records([&]() -> Change& { return change.emplace(database, alice, "import", std::nullopt, source); },
                       database, in, source, options);
    if (change) change->commit();
    return counts;
}

Grant grant_until(const std::string& customer, const std::string& reason, std::optional<std::string> ticket,
                  std::optional<std::string> asked_by) {
    return {customer, reason, std::move(ticket), std::move(asked_by), {}, parse_instant("2100-01-01T00:00:00Z")};
}

/// Something of every kind, with texts that need care in both formats.
void fill(Database& database, const std::string& source) {
    committed(
        database,
        [](Change& change) {
            add_relay(change, "203.0.113.10"_p, "mx, \"one\"", {});
            add_relay(change, "2001:db8:ffff::10"_p, {}, {});
            add_pool(change, "100.64.0.0/10"_p, "north; é漢🦊", Action::drop);
            add_pool(change, "100.64.9.0/24"_p, {}, Action::pass);
            add_pool(change, "2001:db8:100::/40"_p, "'quoted'", Action::observe);
            assign(change, "Smith, \"J\"", "100.64.3.7"_p, {}, false);
            assign(change, "Zoë 漢", "100.64.3.8/30"_p, parse_instant("2100-01-01T00:00:00Z"), false);
            assign(change, "=1+1", "2001:db8:107::/56"_p, {}, false);
            grant_exemption(change, grant_until("Smith, \"J\"", "runs \"mail\", herself", "T-1,2", "J\\S"));
            grant_exemption(change, grant_until("dormant", "r", {}, {}));
            grant_exemption(change, grant_until("gone", "r", {}, {}));
            revoke_exemption(change, "gone", "abuse");
        },
        "fill", source);
}

}  // namespace

TEST_CASE("export: the records of each kind, as JSON lines and as CSV") {
    ScratchDatabase database;
    fill(*database, "manual");
    CHECK(exported(*database, What::relays, Format::jsonl) ==
          R"({"op":"relay","prefix":"203.0.113.10/32","note":"mx, \"one\""})"
          "\n"
          R"({"op":"relay","prefix":"2001:db8:ffff::10/128"})"
          "\n");
    CHECK(exported(*database, What::pools, Format::csv) ==
          "op,prefix,name,action\n"
          "pool,100.64.0.0/10,north; é漢🦊,drop\n"
          "pool,100.64.9.0/24,,pass\n"
          "pool,2001:db8:100::/40,'quoted',observe\n");
    CHECK(exported(*database, What::assignments, Format::csv) ==
          "op,customer,prefix,until\n"
          "assign,\"Smith, \"\"J\"\"\",100.64.3.7/32,\n"
          "assign,Zoë 漢,100.64.3.8/30,2100-01-01T00:00:00Z\n"
          "assign,=1+1,2001:db8:107::/56,\n");
    CHECK(exported(*database, What::exemptions, Format::jsonl) ==
          R"({"op":"exempt","customer":"Smith, \"J\"","until":"2100-01-01T00:00:00Z",)"
          R"("reason":"runs \"mail\", herself","ticket":"T-1,2","asked_by":"J\\S"})"
          "\n"
          R"({"op":"exempt","customer":"dormant","until":"2100-01-01T00:00:00Z","reason":"r"})"
          "\n");
}

TEST_CASE("export: imports as unchanged, in every kind, format and mode") {
    ScratchDatabase database;
    fill(*database, "crm");
    const Revision revision = current_revision(*database);
    for (const What what : every_what) {
        for (const Format format : {Format::jsonl, Format::csv}) {
            for (const bool replace : {false, true}) {
                CAPTURE(static_cast<int>(what), static_cast<int>(format), replace);
                const std::string text = exported(*database, what, format);
                const ImportCounts counts =
                    imported(*database, text, format, "crm", replace ? std::optional(what) : std::nullopt);
                CHECK(counts.unchanged > 0);
                CHECK(counts == ImportCounts{0, 0, counts.unchanged, 0, 0});
            }
            CHECK(imported(*database, exported(*database, what, format), format, "another").unchanged > 0);
        }
    }
    CHECK(current_revision(*database) == revision);
}

TEST_CASE("export: fills an empty database with the same") {
    ScratchDatabase from;
    fill(*from, "crm");
    for (const Format format : {Format::jsonl, Format::csv}) {
        ScratchDatabase to;
        for (const What what : every_what) {
            CHECK(imported(*to, exported(*from, what, format), format, "crm").added > 0);
            CHECK(exported(*to, what, format) == exported(*from, what, format));
        }
    }
}

TEST_CASE("export: only one source's rows, and nothing that ended") {
    ScratchDatabase database;
    fill(*database, "crm");
    committed(*database, [](Change& change) { assign(change, "m", "100.64.77.1"_p, {}, false); });
    CHECK(exported(*database, What::assignments, Format::jsonl, "manual") ==
          R"({"op":"assign","customer":"m","prefix":"100.64.77.1/32"})"
          "\n");
    CHECK(exported(*database, What::relays, Format::csv, "manual") == "op,prefix,note\n");
    let_pass(*database, std::chrono::days{365 * 100});
    CHECK_THAT(exported(*database, What::assignments, Format::csv), !Contains("100.64.3.8"));
    CHECK(exported(*database, What::exemptions, Format::jsonl).empty());
}

TEST_CASE("export: output that can't be written is an error") {
    ScratchDatabase database;
    fill(*database, "crm");
    std::ostringstream out;
    out.setstate(std::ios::badbit);
    CHECK_THROWS_WITH(export_records(*database, out, What::pools, Format::jsonl, {}, now()),
                      Contains("can't be written"));
}

TEST_CASE("disclosure: names what, for whom, in which direction, why, and what stays open, no names of pools") {
    ScratchDatabase database;
    fill(*database, "crm");
    const std::string text = disclosure(*database, parse_instant("2027-01-01T00:00:00Z"));
    CHECK_THAT(text, Contains("State of 2027-01-01T00:00:00Z, revision 1."));
    CHECK_THAT(text, Contains("protocol TCP, over IPv4 and IPv6, on port 25"));
    CHECK_THAT(text, Contains("from the addresses below to port 25") && Contains("from port 25 of any host to"));
    CHECK_THAT(text, Contains("| 100.64.0.0/10 | blocked: packets are discarded |"));
    CHECK_THAT(text, Contains("| 100.64.9.0/24 | not blocked |"));
    CHECK_THAT(text, Contains("| 2001:db8:100::/40 | not blocked: attempts are counted |"));
    CHECK_THAT(text, Contains("- 203.0.113.10/32\n- 2001:db8:ffff::10/128\n"));
    CHECK_THAT(text, Contains("587 and 465 are never blocked"));
    CHECK_THAT(text, Contains("no standard demands it"));
    CHECK_THAT(text, Contains("Ask customer support"));
    for (const char* secret : {"north", "mx, ", "Smith"}) CHECK_THAT(text, !Contains(secret));
}

TEST_CASE("disclosure: says so when nothing is blocked") {
    ScratchDatabase database;
    CHECK_THAT(disclosure(*database, now()), Contains("At present no address is blocked."));
}
