#pragma once
// What the service writes into the database: answers to `apply`, the router's report, the attempts that its kernel
// counted, and the end of history. Writing may fail (disk full, locked by a long import) while following goes on.

#include <string>
#include <vector>

#include "controller/steady.hpp"
#include "rules/kernel.hpp"
#include "subscribers/router.hpp"

namespace smtpfence {

/// Who attempted when, and how long that is remembered.
struct History {
    Instant now;  ///< by the clock that rights go by
    Seconds keep;
};

class Reporter {
public:
    explicit Reporter(Kernel& kernel) : kernel_(kernel) {}

    /// The report has news: it is written with the next write().
    void hurry() { report_due_ = true; }
    /// The next write() says that these rights are withheld.
    void withheld(std::vector<Prefix> rights) { withheld_ = std::move(rights); }
    /// The next write() answers these. Requests from before that failed to be answered come again.
    void asked(std::vector<ApplyRequest> requests) { asked_ = std::move(requests); }

    /// Writes what is due: `report`, whose heartbeat is now; the answers say that `changes` were made for them.
    /// Whether something was written. A DatabaseError is said in the journal, and the same is tried again soon;
    /// throws KernelError.
    bool write(Database&, const Report& report, size_t changes, const History&, Steady::time_point);

    /// When write() has something to do.
    Steady::time_point next(Steady::time_point) const;

private:
    void answer(Database&, const Report&, size_t changes);
    void report(Database&, const Report&, Steady::time_point);
    void read_attempts(Database&, const std::string& router, Instant now, Steady::time_point);
    void forget(Database&, Instant before, Steady::time_point);

    Kernel& kernel_;
    std::vector<ApplyRequest> asked_;
    std::optional<std::vector<Prefix>> withheld_;  ///< to be written
    AttemptReading attempts_{{}, 0, true};
    bool report_due_ = true;
    bool written_ = false;  ///< in this write()
    Steady::time_point next_report_{}, next_attempts_{}, next_forget_{};
    Retry retry_{std::chrono::milliseconds(20)};
    std::string unwritten_;  ///< why the last write() failed
};

}  // namespace smtpfence
