#pragma once
// What the service writes into the database: answers to `apply`, the router's report, the attempts that its kernel
// counted, and the end of history. Writing may fail (disk full, locked by a long import) while following goes on.

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "controller/background.hpp"
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
    ~Reporter();
    Reporter(const Reporter&) = delete;
    Reporter& operator=(const Reporter&) = delete;

    /// The report has news: it is written with the next write() that is 10 ms behind the last report.
    void hurry() { report_due_ = true; }
    /// The next write() says that these rights are withheld.
    void withheld(std::vector<Prefix> rights) { withheld_ = std::move(rights); }
    /// The next write() that succeeds answers these: so many changes were made for them.
    void asked(const std::vector<ApplyRequest>&, size_t changes);
    /// Those of the requests that are not about to be answered: what fails, but for a busy database, is asked again.
    std::vector<ApplyRequest> unheard(std::vector<ApplyRequest>) const;

    /// Writes what is due: `report`, whose heartbeat is now, and the answers. Whether something was written. A
    /// DatabaseError is said in the journal (not that somebody else writes just now), and the same is tried again soon;
    /// throws KernelError.
    bool write(Database&, const Report& report, const History&, Steady::time_point);

    /// When write() has something to do.
    Steady::time_point next(Steady::time_point) const;

private:
    struct Asked {
        ApplyRequest request;
        size_t changes;
    };
    Steady::time_point next_report(Steady::time_point) const;
    void answer(Database&, const Report&);
    void report(Database&, const Report&, Steady::time_point);
    void read_attempts(Database&, const std::string& router, Instant now, Steady::time_point);
    void forget(Database&, Instant before, Steady::time_point);
    void shorten_log(Database&, Steady::time_point);

    Kernel& kernel_;
    std::deque<Asked> asked_;
    std::optional<std::vector<Prefix>> withheld_;  ///< to be written
    AttemptReading attempts_{{}, 0, true};
    bool report_due_ = false;
    bool written_ = false;  ///< in this write()
    std::optional<Steady::time_point> last_report_;
    Steady::time_point next_attempts_{}, next_forget_{}, next_shortening_{};
    Retry busy_{std::chrono::milliseconds(1), std::chrono::milliseconds(16)};  ///< somebody else writes just now
    Retry retry_{std::chrono::milliseconds(1), std::chrono::seconds(1)};
    std::string unwritten_;  ///< why the last write() failed
    std::unique_ptr<Database> shortened_;
    Background shortening_;  ///< of its log; it ends first
};

}  // namespace smtpfence
