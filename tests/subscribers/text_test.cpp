#include "subscribers/text.hpp"

#include <catch2/catch.hpp>

using namespace smtpfence;

TEST_CASE("text: UTF-8 is told from what is none") {
    for (const char* text : {"", "c1", "Zoë", "日本", "\U0001F4E7", "\xf4\x8f\xbf\xbf"}) CHECK(is_utf8(text));
    for (const char* text : {"\xff", "\x80", "\xc3", "\xc3(", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80",
                             "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "abc\xe2\x82"}) {
        CHECK_FALSE(is_utf8(text));
    }
}

TEST_CASE("text: control characters are found") {
    CHECK_FALSE(has_control("Zoë 日本"));
    CHECK(has_control(std::string_view("a\0b", 3)));
    CHECK(has_control("a\tb"));
    CHECK(has_control("\x7f"));
    CHECK(
        has_control("a\xc2\x9b"
                    "31m"));  // CSI in one character
    CHECK_FALSE(has_control("\xc2\xa0"));
}

TEST_CASE("text: a quotation does nothing to a terminal and is short") {
    CHECK(quoted("Zoë") == "'Zoë'");
    CHECK(quoted(std::string("a'b\n\x1b[2J")) == "'a\\x27b\\x0a\\x1b[2J'");
    CHECK(quoted("\xff") == "'\\xff'");
    CHECK(quoted("a\xc2\x9b") == "'a\\xc2\\x9b'");
    CHECK(quoted(std::string(1000, 'x')).size() < 100);
}
