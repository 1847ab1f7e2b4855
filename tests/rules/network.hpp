#pragma once
// A network namespace for one test, and the real `nft` in it. Needs root; without it the constructor throws, so that
// the test fails rather than passes unseen.

#include <string>
#include <vector>

namespace smtpfence {

/// This thread (and what it starts) is in a network namespace of its own until the object ends.
class FreshNetwork {
public:
    FreshNetwork();
    ~FreshNetwork();
    FreshNetwork(const FreshNetwork&) = delete;
    FreshNetwork& operator=(const FreshNetwork&) = delete;

    void enter() const;  ///< back into it, when another one was made since

private:
    int before_ = -1, own_ = -1;
};

/// Runs `nft` with `input` on its standard input and returns its output; throws with its errors when it fails.
std::string nft(const std::vector<std::string>& arguments, const std::string& input = {});

/// A listing without " expires 29d23h…", which moves; and without " timeout 30d" as well.
std::string without_expiry(const std::string& listing);
std::string without_timeouts(const std::string& listing);
/// A listing's sets and chains in the order of their names (nft lists them in that of their creation).
std::string sorted(const std::string& listing);
/// A listing without what an owned table adds: its "flags" line and its owner's name.
std::string without_table_flags(const std::string& listing);

}  // namespace smtpfence
