#include "subscribers/lines.hpp"

#include <fmt/format.h>

#include <cstring>
#include <stdexcept>

#include "subscribers/error.hpp"

namespace smtpfence {

namespace {

constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
// Room for the longest line with CRLF and a byte order mark, and at least as much again to read ahead.
constexpr size_t buffer_size = 4 * longest_line;

std::string_view without(std::string_view text, char last) {
    if (!text.empty() && text.back() == last) text.remove_suffix(1);
    return text;
}

}  // namespace

Lines::Lines(std::istream& in) : in_(in), buffer_(buffer_size, '\0') {}

bool Lines::fill() {
    if (begin_ > 0) {
        std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
        end_ -= begin_;
        begin_ = 0;
    }
    in_.read(buffer_.data() + end_, static_cast<std::streamsize>(buffer_.size() - end_));
    if (in_.bad()) throw std::runtime_error(fmt::format("the input can't be read after line {}", number_));
    const auto count = static_cast<size_t>(in_.gcount());
    end_ += count;
    return count > 0;
}

bool Lines::next() {
    size_t searched = 0;
    const char* found = nullptr;
    while (true) {
        const char* start = buffer_.data() + begin_;
        found = static_cast<const char*>(std::memchr(start + searched, '\n', end_ - begin_ - searched));
        searched = end_ - begin_;
        if (found || searched > longest_line + byte_order_mark.size() + 1) break;
        if (!fill()) break;
    }
    if (!found && searched == 0) return false;
    ++number_;
    complete_ = found != nullptr;
    const size_t size = found ? static_cast<size_t>(found - (buffer_.data() + begin_)) : searched;
    text_ = std::string_view(buffer_).substr(begin_, size);
    const size_t used = size + (complete_ ? 1 : 0);
    begin_ += used;
    bytes_ += static_cast<int64_t>(used);
    if (number_ == 1 && text_.starts_with(byte_order_mark)) text_.remove_prefix(byte_order_mark.size());
    text_ = without(text_, '\r');
    if (text_.size() > longest_line) {
        throw Refused(Refusal::invalid, fmt::format("line {}: longer than {} bytes; is this the right file and format?",
                                                    number_, longest_line));
    }
    return true;
}

}  // namespace smtpfence
