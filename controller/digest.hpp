#pragma once
// A short name for a long text: the same text has the same digest everywhere, another text another one.

#include <memory>
#include <string>
#include <string_view>

namespace smtpfence {

/// SHA-256 (FIPS 180-4), taken in piece by piece.
class Digest {
public:
    Digest();
    ~Digest();
    void add(std::string_view);
    /// 64 lower-case hexadecimal digits. Nothing may be added afterwards.
    std::string text();

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace smtpfence
