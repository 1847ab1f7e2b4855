#pragma once
// Standard output as a stream that remembers why it could not be written.

#include <array>
#include <streambuf>
#include <string_view>

namespace smtpfence {

class StandardOutput : public std::streambuf {
public:
    StandardOutput();
    /// errno of the first write that failed; 0: none did. Nothing is written after it.
    int error() const { return error_; }

protected:
    int_type overflow(int_type) override;
    int sync() override;

private:
    std::array<char, 65536> buffer_;
    int error_ = 0;
};

}  // namespace smtpfence
