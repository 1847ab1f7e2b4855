#include "controller/output.hpp"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <sstream>

#include "subscribers/error.hpp"

using namespace smtpfence;

namespace {

const std::vector<Column> columns = {{"customer", "CUSTOMER"}, {"prefixes", "HOLDS"}, {"note", ""}, {"live", "LIVE"}};

std::string listed(Style style, const std::vector<Json>& items, bool color = false) {
    std::ostringstream data, messages;
    Output output(data, messages, style, color, false);
    Listing listing(output, columns, {{"revision", 7}});
    for (const Json& item : items) listing.add(item);
    listing.finish();
    CHECK(messages.str().empty());
    CHECK(listing.size() == items.size());
    return data.str();
}

const std::vector<Json> two = {
    {{"customer", "c1"}, {"prefixes", {"100.64.3.7/32", "2001:db8::/56"}}, {"note", nullptr}, {"live", true}},
    {{"customer", "müller, \"hans\""}, {"prefixes", Json::array()}, {"note", "x"}, {"live", false}},
};

/// Sets or unsets a variable for the test's time.
struct Environment {
    Environment(const char* variable, const char* value) : name(variable) {
        if (const char* found = std::getenv(name)) before = found;
        value ? setenv(name, value, 1) : unsetenv(name);
    }
    ~Environment() { before ? setenv(name, before->c_str(), 1) : unsetenv(name); }
    Environment(const Environment&) = delete;
    Environment& operator=(const Environment&) = delete;
    const char* name;
    std::optional<std::string> before;
};

}  // namespace

TEST_CASE("output: a table aligns by what the terminal shows, and leaves out columns without a heading") {
    CHECK(listed(Style::table, two) ==
          "CUSTOMER        HOLDS                         LIVE\n"
          "c1              100.64.3.7/32, 2001:db8::/56  yes\n"
          "müller, \"hans\"  -                             no\n");
}

TEST_CASE("output: JSON is one object with what stands beside its items") {
    const auto parsed = nlohmann::json::parse(listed(Style::json, two));
    CHECK(parsed["version"] == 1);
    CHECK(parsed["revision"] == 7);
    REQUIRE(parsed["items"].size() == 2);
    CHECK(parsed["items"][0]["note"].is_null());
    CHECK(parsed["items"][1]["customer"] == "müller, \"hans\"");
}

TEST_CASE("output: JSON lines are the items alone, CSV quotes as RFC 4180") {
    CHECK(listed(Style::jsonl, {two[0]}) ==
          "{\"customer\":\"c1\",\"prefixes\":[\"100.64.3.7/32\",\"2001:db8::/56\"],\"note\":null,\"live\":true}\n");
    CHECK(listed(Style::csv, two) ==
          "customer,prefixes,note,live\n"
          "c1,100.64.3.7/32 2001:db8::/56,,true\n"
          "\"müller, \"\"hans\"\"\",,x,false\n");
}

TEST_CASE("output: an empty list is an empty table, and still a whole JSON or CSV document") {
    CHECK(listed(Style::table, {}).empty());
    CHECK(listed(Style::json, {}) == "{\"version\":1,\"revision\":7,\"items\":[]}\n");
    CHECK(listed(Style::csv, {}) == "customer,prefixes,note,live\n");
    CHECK(listed(Style::jsonl, {}).empty());
}

TEST_CASE("output: a long table keeps its columns beyond the rows by which widths were chosen") {
    std::vector<Json> items(1500, Json{{"customer", "c1"}, {"prefixes", "p"}, {"live", true}});
    const std::string table = listed(Style::table, items);
    CHECK(std::count(table.begin(), table.end(), '\n') == 1501);
    CHECK(table.ends_with("\nc1        p      yes\n"));
}

TEST_CASE("output: what a terminal would act on becomes visible") {
    CHECK(visible("plain müller 中") == "plain müller 中");
    CHECK(visible("a\x1b[31mb\x07\x7f") == "a\\x1b[31mb\\x07\\x7f");
    CHECK(visible("a\nb\tc") == "a\\x0ab\\x09c");
    CHECK(visible("\xc2\x9b"
                  "31m") == "\\x9b31m");  // C1 control sequence introducer
    CHECK(visible("a\u202e"
                  "b") == "a\\u202eb");  // right-to-left override
    CHECK(visible("a\u2066"
                  "b\u2069\u200b") == "a\\u2066b\\u2069\\u200b");
    CHECK(visible(std::string_view("a\0b", 3)) == "a\\x00b");
    CHECK(visible("a\xff\xc3") == "a\\xff\\xc3");                           // no UTF-8
    CHECK(visible("\xc0\xaf\xed\xa0\x80") == "\\xc0\\xaf\\xed\\xa0\\x80");  // overlong, surrogate
    CHECK(listed(Style::table, {{{"customer", "\x1b]0;gone\x07"}, {"prefixes", "\u202e"}, {"live", true}}})
              .find('\x1b') == std::string::npos);
}

TEST_CASE("output: width counts cells, not bytes") {
    CHECK(display_width("abc") == 3);
    CHECK(display_width("müller") == 6);
    CHECK(display_width("中文") == 4);
    CHECK(display_width("e\u0301") == 1);  // a combining accent
}

TEST_CASE("output: a JSON document is UTF-8 even if the database holds something else") {
    CHECK_NOTHROW(nlohmann::json::parse(listed(Style::json, {{{"customer", "\xff"}}})));
}

TEST_CASE("output: colour is for terminals, and not where NO_COLOR is set") {
    const Environment terminal("TERM", "xterm");
    {
        const Environment unset("NO_COLOR", nullptr);
        CHECK(use_color("auto", true));
        CHECK_FALSE(use_color("auto", false));
    }
    const Environment set("NO_COLOR", "1");
    CHECK_FALSE(use_color("auto", true));
    CHECK(use_color("always", false));
    CHECK_FALSE(use_color("never", true));
    CHECK_THROWS_AS(use_color("sometimes", true), Refused);
    CHECK(listed(Style::table, {two[0]}, true).starts_with("\x1b[1mCUSTOMER\x1b[0m  "));
}

TEST_CASE("output: a result is a sentence for people, and quiet when asked, a document for programs") {
    const auto said = [](Style style, bool quiet) {
        std::ostringstream data, messages;
        Output(data, messages, style, false, quiet).result({{"revision", 3}, {"added", {"a", "b"}}}, "a, b added");
        return data.str();
    };
    CHECK(said(Style::table, false) == "a, b added\n");
    CHECK(said(Style::table, true).empty());
    CHECK(said(Style::json, true) == "{\"version\":1,\"revision\":3,\"added\":[\"a\",\"b\"]}\n");
    CHECK(said(Style::csv, false) == "revision,added\n3,a b\n");
}

TEST_CASE("output: notes are silenced by quiet, warnings are not") {
    std::ostringstream data, messages;
    Output output(data, messages, Style::table, false, true);
    output.note("by the way");
    output.warn("look\nout");
    CHECK(messages.str() == "smtpfence: warning: look\\x0aout\n");
    CHECK(data.str().empty());
}

TEST_CASE("output: a card shows the lines that have a value") {
    std::ostringstream data, messages;
    Output output(data, messages, Style::table, false, false);
    output.card({{"holder", "c1"}, {"pool", nullptr}}, "100.64.3.7",
                {{"holder", "holder"}, {"pool", "pool"}, {"missing", "much longer"}});
    CHECK(data.str() == "100.64.3.7\n  holder:      c1\n");
}

TEST_CASE("output: the four styles, and no other") {
    CHECK(parse_style("table") == Style::table);
    CHECK(parse_style("json") == Style::json);
    CHECK(parse_style("jsonl") == Style::jsonl);
    CHECK(parse_style("csv") == Style::csv);
    CHECK_THROWS_WITH(parse_style("xml"), Catch::Contains("table, json, csv or jsonl"));
}
