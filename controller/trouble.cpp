#include "controller/trouble.hpp"

#include <fmt/format.h>

#include "controller/journal.hpp"

namespace smtpfence {

void Trouble::set(const std::string& reason, Instant at) {
    if (reason_ == reason) return;
    std::string since;
    if (reason_) {
        since = fmt::format(" (in trouble since {})", format_instant(since_));
    } else {
        since_ = at;
    }
    reason_ = reason;
    journal(Level::warning, reason + since + "; the rules in force stay in force");
}

void Trouble::clear(Instant at) {
    if (reason_) journal(Level::notice, fmt::format("recovered after {} ({})", format_duration(at - since_), *reason_));
    reason_.reset();
}

}  // namespace smtpfence
