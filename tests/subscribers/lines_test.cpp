#include "subscribers/lines.hpp"

#include <catch2/catch.hpp>
#include <sstream>
#include <vector>

#include "subscribers/error.hpp"

using namespace smtpfence;

namespace {

std::vector<std::string> all(const std::string& text) {
    std::istringstream in(text);
    Lines lines(in);
    std::vector<std::string> result;
    while (lines.next()) result.emplace_back(lines.text());
    return result;
}

// Gives out its text in pieces of one byte, as a slow pipe does.
class Trickle : public std::streambuf {
public:
    explicit Trickle(std::string text) : text_(std::move(text)) {}

protected:
    int_type underflow() override {
        if (at_ == text_.size()) return traits_type::eof();
        setg(&text_[at_], &text_[at_], &text_[at_] + 1);
        ++at_;
        return traits_type::to_int_type(*gptr());
    }

private:
    std::string text_;
    size_t at_ = 0;
};

class Broken : public std::streambuf {
protected:
    int_type underflow() override { throw std::runtime_error("unplugged"); }
};

}  // namespace

TEST_CASE("Lines: splits at LF and CRLF") {
    CHECK(all("").empty());
    CHECK(all("a\nb\r\n\nc") == std::vector<std::string>{"a", "b", "", "c"});
    CHECK(all("\n") == std::vector<std::string>{""});
}

TEST_CASE("Lines: a byte order mark is dropped at the start only") {
    CHECK(all("\xef\xbb\xbf{}\n\xef\xbb\xbf{}\n") == std::vector<std::string>{"{}", "\xef\xbb\xbf{}"});
}

TEST_CASE("Lines: counts lines and bytes, and tells whether the last one is complete") {
    std::istringstream in("ab\r\nc");
    Lines lines(in);
    REQUIRE(lines.next());
    CHECK(lines.number() == 1);
    CHECK(lines.bytes() == 4);
    CHECK(lines.complete());
    REQUIRE(lines.next());
    CHECK(lines.number() == 2);
    CHECK(lines.bytes() == 5);
    CHECK_FALSE(lines.complete());
    CHECK_FALSE(lines.next());
}

TEST_CASE("Lines: the longest line is accepted, one byte more is refused with its number") {
    const std::string longest(longest_line, 'x');
    CHECK(all("a\n" + longest + "\r\nb\n") == std::vector<std::string>{"a", longest, "b"});
    CHECK(all("\xef\xbb\xbf" + longest + "\r\n") == std::vector<std::string>{longest});
    CHECK(all(longest) == std::vector<std::string>{longest});
    CHECK_THROWS_WITH(all("a\n" + longest + "x\n"), Catch::StartsWith("line 2: longer than 65536 bytes"));
    CHECK_THROWS_WITH(all(std::string(1'000'000, 'x')), Catch::StartsWith("line 1: longer than 65536 bytes"));
    try {
        all(longest + "x");
        FAIL("accepted");
    } catch (const Refused& refused) {
        CHECK(refused.reason == Refusal::invalid);
    }
}

TEST_CASE("Lines: many lines across the buffer's end stay whole") {
    std::string text;
    std::vector<std::string> expected;
    for (int i = 0; i < 20'000; ++i) {
        expected.push_back(std::string(static_cast<size_t>(i % 97), 'y') + std::to_string(i));
        text += expected.back() + "\n";
    }
    CHECK(all(text) == expected);
}

TEST_CASE("Lines: a pipe that gives one byte at a time") {
    Trickle trickle("ab\ncd\n");
    std::istream in(&trickle);
    Lines lines(in);
    REQUIRE(lines.next());
    CHECK(lines.text() == "ab");
    REQUIRE(lines.next());
    CHECK(lines.text() == "cd");
    CHECK_FALSE(lines.next());
}

TEST_CASE("Lines: a stream that can't be read is an error, not an end") {
    Broken broken;
    std::istream in(&broken);
    Lines lines(in);
    CHECK_THROWS_WITH(lines.next(), Catch::Contains("can't be read"));
}
