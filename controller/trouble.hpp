#pragma once
// Why the router is not at the desired revision, and since when. Each change of it is one line in the journal.

#include <optional>
#include <string>

#include "subscribers/instant.hpp"

namespace smtpfence {

class Trouble {
public:
    /// The same reason again is no news; another reason goes on with the time of the first.
    void set(const std::string& reason, Instant at);
    void clear(Instant at);
    const std::optional<std::string>& reason() const { return reason_; }
    /// Meaningful while there is a reason.
    Instant since() const { return since_; }

private:
    std::optional<std::string> reason_;
    Instant since_{};
};

}  // namespace smtpfence
