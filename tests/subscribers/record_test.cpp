#include "subscribers/record.hpp"

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <random>

#include "subscribers/error.hpp"

using namespace smtpfence;

namespace {

Record parsed(const std::string& line, std::optional<What> what = {}) {
    return RecordParser(Format::jsonl, what).parse(line).value();
}

Record row(const std::string& header, const std::string& line, std::optional<What> what = {}) {
    RecordParser parser(Format::csv, what);
    REQUIRE_FALSE(parser.parse(header));
    return parser.parse(line).value();
}

// Why a line is refused; "" when it isn't. Every refusal of this layer is about a value.
std::string line_refusal(RecordParser parser, std::string_view line) {
    try {
        parser.parse(line);
        return "";
    } catch (const Refused& refused) {
        CHECK(refused.reason == Refusal::invalid);
        return refused.what();
    }
}
std::string json_refusal(std::string_view line, std::optional<What> what = {}) {
    return line_refusal(RecordParser(Format::jsonl, what), line);
}
std::string csv_refusal(const std::string& header, std::string_view line, std::optional<What> what = {}) {
    RecordParser parser(Format::csv, what);
    REQUIRE_FALSE(parser.parse(header));
    return line_refusal(parser, line);
}

using Catch::Contains;
using Catch::StartsWith;

}  // namespace

TEST_CASE("RecordParser: every op with all its keys") {
    Record assign;
    assign.customer = "c1";
    assign.prefix = Prefix::parse("100.64.3.7");
    assign.until = parse_instant("2027-01-01T00:00:00Z");
    assign.take = true;
    CHECK(
        parsed(R"({"op":"assign","customer":"c1","prefix":"100.64.3.7","until":"2027-01-01T00:00:00Z","take":true})") ==
        assign);
    CHECK(row("customer,take,prefix,until,op", "c1,true,100.64.3.7/32,2027-01-01T01:00:00+01:00,assign") == assign);

    Record release;
    release.op = Op::release;
    release.prefix = Prefix::parse("2001:db8:1::/56");
    CHECK(parsed(R"({"op":"release","prefix":"2001:db8:1::/56"})") == release);
    release.customer = "c1";
    CHECK(parsed(R"({"op":"release","prefix":"2001:db8:1::/56","customer":"c1"})") == release);

    Record pool;
    pool.op = Op::pool;
    pool.prefix = Prefix::parse("100.64.0.0/10");
    pool.name = "north";
    pool.action = Action::reject;
    CHECK(parsed(R"({"op":"pool","prefix":"100.64.0.0/10","name":"north","action":"reject"})") == pool);

    Record relay;
    relay.op = Op::relay;
    relay.prefix = Prefix::parse("203.0.113.10");
    relay.note = "mx-out-1";
    CHECK(parsed(R"({"op":"relay","prefix":"203.0.113.10","note":"mx-out-1"})") == relay);

    Record exempt;
    exempt.op = Op::exempt;
    exempt.customer = "Zoë \"Z\", Ltd.";
    exempt.reason = "own server";
    exempt.ticket = "T-1";
    exempt.asked_by = "Zoë";
    exempt.until = parse_instant("2027-01-01T00:00:00Z");
    CHECK(parsed(R"({"op":"exempt","customer":"Zo\u00eb \"Z\", Ltd.","reason":"own server","ticket":"T-1",)"
                 R"("asked_by":"Zoë","until":"2027-01-01T00:00:00Z"})") == exempt);

    Record revoke;
    revoke.op = Op::revoke;
    revoke.customer = "c1";
    revoke.reason = "abuse";
    CHECK(parsed(R"(  {"op":"revoke","customer":"c1","reason":"abuse"}  )") == revoke);
}

TEST_CASE("RecordParser: --what stands for the op") {
    CHECK(parsed(R"({"prefix":"100.64.0.0/10"})", What::pools).op == Op::pool);
    CHECK(parsed(R"({"prefix":"203.0.113.10"})", What::relays).op == Op::relay);
    CHECK(parsed(R"({"customer":"c1","reason":"r"})", What::exemptions).op == Op::exempt);
    CHECK(parsed(R"({"op":"release","prefix":"203.0.113.10"})", What::assignments).op == Op::release);
    CHECK(row("customer,prefix", "c1,100.64.3.7", What::assignments).op == Op::assign);
    CHECK_THAT(json_refusal(R"({"op":"pool","prefix":"100.64.0.0/10"})", What::relays),
               StartsWith("op pool is not about relays"));
    CHECK_THAT(json_refusal(R"({"prefix":"100.64.0.0/10"})"), StartsWith("no \"op\""));
}

TEST_CASE("RecordParser: blank lines are no records") {
    RecordParser json(Format::jsonl, {});
    CHECK_FALSE(json.parse(""));
    CHECK_FALSE(json.parse(" \t\r"));
    RecordParser csv(Format::csv, What::relays);
    CHECK_FALSE(csv.parse(""));
    CHECK_FALSE(csv.parse("prefix"));
    CHECK_FALSE(csv.parse(""));
    CHECK(csv.parse("203.0.113.10"));
}

TEST_CASE("RecordParser: what is no flat JSON object of texts is refused") {
    CHECK_THAT(json_refusal("nonsense"), StartsWith("not valid JSON at byte"));
    CHECK_THAT(json_refusal(R"({"op":"relay","prefix":"203.0.113)"), StartsWith("not valid JSON at byte"));
    CHECK_THAT(json_refusal(R"({"op":"relay","prefix":"203.0.113.10"} {})"), StartsWith("not valid JSON at byte"));
    CHECK_THAT(json_refusal(R"({"op":"relay","prefix":"203.0.113.10",})"), StartsWith("not valid JSON at byte"));
    CHECK_THAT(json_refusal("[]"), Contains("not a list"));
    CHECK_THAT(json_refusal("\"relay\""), Contains("a record is a JSON object"));
    CHECK_THAT(json_refusal("7"), Contains("not a number"));
    CHECK_THAT(json_refusal("true"), Contains("a record is a JSON object"));
    CHECK_THAT(json_refusal("null"), Contains("a record is a JSON object"));
    CHECK_THAT(json_refusal(std::string(60'000, '[')), Contains("not a list"));
    CHECK_THAT(json_refusal(R"({"op":{"op":"relay"}})"), Contains("op must be a text, not an object"));
    CHECK_THAT(json_refusal(R"({"customer":17})"), Contains("customer must be a text, not a number"));
    CHECK_THAT(json_refusal(R"({"customer":-1.5})"), Contains("customer must be a text, not a number"));
    CHECK_THAT(json_refusal(R"({"until":null})"), Contains("until must be a text, not null"));
    CHECK_THAT(json_refusal(R"({"until":true})"), Contains("until must be a text, not true or false"));
    CHECK_THAT(json_refusal(R"({"take":"true"})"), Contains("take must be true or false, not a text"));
    CHECK_THAT(json_refusal(R"({"take":1})"), Contains("take must be true or false, not a number"));
    CHECK_THAT(json_refusal(R"({"prefix":["203.0.113.10"]})"), Contains("prefix must be a text, not a list"));
}

TEST_CASE("RecordParser: unknown, repeated, missing and misplaced keys") {
    CHECK_THAT(json_refusal(R"({"op":"relay","prefx":"203.0.113.10"})"),
               StartsWith("unknown key 'prefx'; the keys are"));
    CHECK_THAT(json_refusal(R"({"op":"relay","op":"relay"})"), StartsWith("the key op stands twice"));
    CHECK_THAT(json_refusal(R"({"op":"relay"})"), StartsWith("relay needs prefix"));
    CHECK_THAT(json_refusal(R"({"op":"exempt","reason":"r"})"), StartsWith("exempt needs customer"));
    CHECK_THAT(json_refusal(R"({"op":"revoke","customer":"c1"})"), StartsWith("revoke needs reason"));
    CHECK_THAT(json_refusal(R"({"op":"assign"})"), StartsWith("assign needs customer, prefix"));
    CHECK_THAT(json_refusal(R"({"op":"relay","prefix":"203.0.113.10","action":"drop"})"),
               StartsWith("relay has no action; its keys are prefix, note"));
    CHECK_THAT(json_refusal(R"({"op":"grant","customer":"c1"})"), StartsWith("unknown op 'grant'"));
}

TEST_CASE("RecordParser: values that don't parse") {
    CHECK(json_refusal(R"({"op":"relay","prefix":"203.0.113.10/24"})") != "");
    CHECK(json_refusal(R"({"op":"relay","prefix":"203.0.113.10/33"})") != "");
    CHECK(json_refusal(R"({"op":"relay","prefix":"::ffff:203.0.113.10"})") != "");
    CHECK(json_refusal(R"({"op":"pool","prefix":"100.64.0.0/10","action":"block"})") != "");
    CHECK(json_refusal(R"({"op":"assign","customer":"c1","prefix":"100.64.3.7","until":"2027-01-01T00:00:00"})") != "");
    CHECK(json_refusal(R"({"op":"assign","customer":"","prefix":"100.64.3.7"})") != "");
    CHECK(json_refusal(R"({"op":"assign","customer":"a\u0000b","prefix":"100.64.3.7"})") != "");
    CHECK(json_refusal(R"({"op":"assign","customer":" c1","prefix":"100.64.3.7"})") != "");
    CHECK(json_refusal(R"({"op":"revoke","customer":"c1","reason":"line\nbreak"})") != "");
    CHECK(json_refusal(R"({"op":"revoke","customer":"c1","reason":""})") != "");
}

TEST_CASE("RecordParser: NUL and invalid UTF-8") {
    using namespace std::string_literals;
    CHECK_THAT(json_refusal("{\"op\":\"relay\",\"prefix\":\"203.0.113.10\"}\0"s), StartsWith("a NUL byte"));
    CHECK_THAT(json_refusal("\0"s), StartsWith("a NUL byte"));
    CHECK_THAT(json_refusal("{\"op\":\"revoke\",\"customer\":\"c\xff\",\"reason\":\"r\"}"),
               StartsWith("invalid UTF-8"));
    CHECK_THAT(json_refusal("{\"op\":\"revoke\",\"customer\":\"c\xc0\xaf\",\"reason\":\"r\"}"),
               StartsWith("invalid UTF-8"));
    CHECK_THAT(json_refusal(R"({"op":"revoke","customer":"\ud800","reason":"r"})"), StartsWith("not valid JSON"));
    CHECK(csv_refusal("customer,reason,op", "c\xff,r,revoke") != "");
    CHECK_THAT(csv_refusal("customer,reason,op", "c\0,r,revoke"s), StartsWith("a NUL byte"));
}

TEST_CASE("RecordParser: CSV quoting") {
    const std::string header = "op,customer,reason";
    CHECK(row(header, R"(revoke,"a,b","say ""no""")").customer == "a,b");
    CHECK(row(header, R"(revoke,"a,b","say ""no""")").reason == "say \"no\"");
    CHECK(row("\"op\",customer,reason", "revoke,c1,r").customer == "c1");
    CHECK_THAT(csv_refusal(header, "revoke,\"c1,r"), StartsWith("the quotes of field 2 don't end on this line"));
    CHECK_THAT(csv_refusal(header, "revoke,\"c1\"x,r"), StartsWith("field 2 goes on after its closing quote"));
    CHECK_THAT(csv_refusal(header, "revoke,c\"1\",r"), StartsWith("field 2 has a quote inside"));
    CHECK_THAT(csv_refusal(header, "revoke,c1"), StartsWith("2 fields where the header names 3 columns"));
    CHECK_THAT(csv_refusal(header, "revoke,c1,r,"), StartsWith("4 fields where the header names 3 columns"));
}

TEST_CASE("RecordParser: an empty CSV field is a key without a value") {
    const Record record = row("op,customer,prefix,until,take", "assign,c1,100.64.3.7,,");
    CHECK_FALSE(record.until);
    CHECK_FALSE(record.take);
    CHECK_FALSE(row("op,customer,prefix,take", "assign,c1,100.64.3.7,false").take);
    CHECK_THAT(csv_refusal("op,customer,prefix,take", "assign,c1,100.64.3.7,yes"),
               StartsWith("take must be true or false"));
    CHECK_THAT(csv_refusal("op,customer,prefix", "assign,,100.64.3.7"), StartsWith("assign needs customer"));
}

TEST_CASE("RecordParser: a wrong header") {
    const auto header = [](std::string_view line, std::optional<What> what) {
        return line_refusal(RecordParser(Format::csv, what), line);
    };
    CHECK_THAT(header("op,addr", {}), StartsWith("wrong header: unknown column 'addr'; the columns are op, customer"));
    CHECK_THAT(header("op,prefix,op", {}), StartsWith("wrong header: the column op stands twice"));
    CHECK_THAT(header("customer,prefix", {}), StartsWith("wrong header: no column op"));
    CHECK_THAT(header("customer", What::assignments), StartsWith("wrong header: assignments need the column prefix"));
    CHECK_THAT(header("assign,c1,100.64.3.7", {}), StartsWith("wrong header: unknown column 'assign'"));
    CHECK_THAT(header(R"({"op":"relay","prefix":"203.0.113.10"})", {}), Contains("--format jsonl"));
    RecordParser lines(Format::jsonl, {});
    for (const char* csv : {"op,customer,prefix", "customer", "assign,c1,100.64.3.7"}) {
        CHECK_THAT(line_refusal(lines, csv), Contains("--format csv"));
    }
    for (const char* broken : {"nonsense", R"({"op":"assign",)", "[1,2]", R"("a,b",c)"}) {
        CHECK_THAT(line_refusal(lines, broken), !Contains("--format"));
    }
}

TEST_CASE("record_json and record_csv: what is written reads back as the same record") {
    std::mt19937 random(20261124);
    const auto below = [&](uint32_t n) { return static_cast<size_t>(random() % n); };
    const std::vector<std::string> pieces = {"a",  "Z",    "\"", ",", "'",    " x", "é",
                                             "漢", "🦊", "\\", ";", "=1+1", "{",  "\t"};
    const auto text = [&] {
        std::string result = "t";
        for (size_t n = below(12); n-- > 0;) result += pieces[below(13)];
        return result;
    };
    const auto maybe = [&] { return below(2) ? std::optional(text()) : std::nullopt; };
    const What whats[] = {What::assignments, What::pools, What::relays, What::exemptions};
    for (int round = 0; round < 2000; ++round) {
        Record record;
        const What what = whats[below(4)];
        const std::string prefix = fmt::format("100.{}.{}.0/24", below(256), below(256));
        if (what != What::exemptions) record.prefix = Prefix::parse(below(2) ? prefix : "2001:db8::/48");
        if (what == What::assignments || what == What::exemptions) {
            record.customer = text();
            if (below(2)) record.until = to_instant(static_cast<int64_t>(random()));
        }
        if (what == What::pools)
            record.op = Op::pool, record.name = maybe(), record.action = static_cast<Action>(below(4));
        if (what == What::relays) record.op = Op::relay, record.note = maybe();
        if (what == What::exemptions) {
            record.op = Op::exempt;
            record.reason = text();
            record.ticket = maybe();
            record.asked_by = maybe();
        }
        CAPTURE(record_json(record), record_csv(record));
        CHECK(parsed(record_json(record)) == record);
        CHECK(row(csv_header(what), record_csv(record)) == record);
    }
}

TEST_CASE("RecordParser: any bytes are a record or refused") {
    std::mt19937 random(7);
    const std::string seeds[] = {
        R"({"op":"assign","customer":"c1","prefix":"100.64.3.7","until":"2027-01-01T00:00:00Z","take":true})",
        R"(assign,"c,1",100.64.3.7,2027-01-01T00:00:00Z,true)"};
    size_t refused = 0;
    for (int round = 0; round < 20'000; ++round) {
        const bool csv = round % 2 == 1;
        std::string line = seeds[round % 2];
        for (unsigned n = random() % 4; n-- > 0;) {
            const size_t at = random() % line.size();
            switch (random() % 3) {
                case 0:
                    line[at] = static_cast<char>(random());
                    break;
                case 1:
                    line.erase(at, random() % 8 + 1);
                    break;
                default:
                    line.insert(at, line, random() % line.size(), random() % 8);
            }
            if (line.empty()) break;
        }
        RecordParser parser(csv ? Format::csv : Format::jsonl, {});
        if (csv) parser.parse("op,customer,prefix,until,take");
        try {
            parser.parse(line);
        } catch (const Refused& error) {
            ++refused;
            CHECK(error.reason == Refusal::invalid);
            CHECK(is_utf8(error.what()));
        }
    }
    CHECK(refused > 1000);
}
