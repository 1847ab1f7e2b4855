#pragma once
// A whole policy, read in a thread of its own over a session of its own, while its owner reads something else or
// follows. At a million exemptions that takes longer than all else that a start does. An owner who has nothing else to
// do helps: the thread reads from the first customer on, the owner from the last one back, until they meet.
//
//   PolicyReading reading(url, now());
//   ...                                                    // reading.descriptor() is readable when it is over
//   reading.help(session);
//   if (auto whole = reading.take()) bring_up(whole->policy, what changed since);

#include <deque>
#include <future>
#include <mutex>
#include <optional>
#include <string>

#include "subscribers/policy.hpp"

namespace smtpfence {

struct WholePolicy {
    Policy policy;
    std::string mark;  ///< revision_mark() of its revision
    Instant time;      ///< what ended before is left out
};

class PolicyReading {
public:
    /// Begins. Throws nothing: what fails is a reading without result.
    PolicyReading(std::string url, Instant now);
    /// Ends the reading, whatever is left of it.
    ~PolicyReading();
    PolicyReading(const PolicyReading&) = delete;
    PolicyReading& operator=(const PolicyReading&) = delete;

    /// Readable when it is over; -1: nothing tells.
    int descriptor() const { return bell_; }
    /// take() doesn't wait.
    bool over() const;
    /// Reads what is left together with the thread, over `session`, which must be within no transaction. Throws what
    /// `session` throws; a later call goes on.
    void help(Database& session);
    /// Waits, and hands over what was read, once. nullopt: it failed, or was taken.
    std::optional<WholePolicy> take();
    bool taken() const { return taken_; }

private:
    class Interruptible;
    std::optional<WholePolicy> read(const std::string& url);
    void read_rights_from(From, Database& session, std::deque<Right>&);

    const Instant time_;
    int bell_ = -1;
    bool taken_ = false;
    std::deque<Right> helped_;  ///< what the owner has read
    std::mutex mutex_;
    // Guarded by it:
    Database* session_ = nullptr;       ///< while it is read
    std::optional<Revision> revision_;  ///< which is read, when that is known
    CustomersLeft left_;
    std::future<std::optional<WholePolicy>> result_;
};

}  // namespace smtpfence
