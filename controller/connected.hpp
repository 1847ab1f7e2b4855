#pragma once
// The prefixes that this machine's interfaces are connected to, as its addresses tell.

#include <string>
#include <vector>

#include "subscribers/prefix.hpp"

namespace smtpfence {

struct Connected {
    std::string interface;
    Prefix prefix;
    friend auto operator<=>(const Connected&, const Connected&) = default;
};

/// Sorted, unique; without loopback and link-local addresses. `patterns` as in [interfaces] subscriber: only interfaces
/// that match one; empty: all. Throws std::system_error.
std::vector<Connected> connected_prefixes(const std::vector<std::string>& patterns);

}  // namespace smtpfence
