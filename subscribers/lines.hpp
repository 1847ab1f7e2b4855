#pragma once
// The lines of a stream, one at a time, however large the stream is. No line is kept longer than longest_line.
//
//   Lines lines(in);
//   while (lines.next()) use(lines.number(), lines.text());

#include <cstdint>
#include <istream>
#include <string>
#include <string_view>

namespace smtpfence {

/// Longest accepted line, in bytes, without its line break.
constexpr size_t longest_line = 65536;

class Lines {
public:
    explicit Lines(std::istream& in);

    /// Steps to the next line; false at the end. Throws Refused (invalid), "line N: ...", for a line that is too long,
    /// std::runtime_error when the stream can't be read.
    bool next();

    /// The line without LF or CRLF, and without a UTF-8 byte order mark at the start of the stream. Valid until next().
    std::string_view text() const { return text_; }
    int64_t number() const { return number_; }  ///< counts from 1
    /// Whether a line break ended it; false only for the last line of a stream that ends without one.
    bool complete() const { return complete_; }
    int64_t bytes() const { return bytes_; }  ///< up to and with this line

private:
    bool fill();

    std::istream& in_;
    std::string buffer_;
    size_t begin_ = 0, end_ = 0;  // what of buffer_ is read and not yet given out
    std::string_view text_;
    int64_t number_ = 0, bytes_ = 0;
    bool complete_ = true;
};

}  // namespace smtpfence
