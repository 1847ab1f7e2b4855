#include "controller/standard_output.hpp"

#include <unistd.h>

#include <cerrno>

namespace smtpfence {

StandardOutput::StandardOutput() { setp(buffer_.data(), buffer_.data() + buffer_.size()); }

StandardOutput::int_type StandardOutput::overflow(int_type next) {
    if (sync() != 0) return traits_type::eof();
    if (traits_type::eq_int_type(next, traits_type::eof())) return traits_type::not_eof(next);
    return sputc(traits_type::to_char_type(next));
}

int StandardOutput::sync() {
    while (pbase() != pptr() && error_ == 0) {
        const ssize_t written = write(STDOUT_FILENO, pbase(), static_cast<size_t>(pptr() - pbase()));
        if (written < 0) {
            if (errno != EINTR) error_ = errno;
            continue;
        }
        const std::string_view left(pbase() + written, static_cast<size_t>(pptr() - pbase() - written));
        traits_type::move(buffer_.data(), left.data(), left.size());
        setp(buffer_.data(), buffer_.data() + buffer_.size());
        pbump(static_cast<int>(left.size()));
    }
    return error_ == 0 ? 0 : -1;
}

}  // namespace smtpfence
