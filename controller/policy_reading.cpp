#include "controller/policy_reading.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "subscribers/revision.hpp"

namespace smtpfence {

namespace {

/// Customers that are read at once: 5 ms.
constexpr int64_t page = 5000;

}  // namespace

PolicyReading::PolicyReading(std::string url, Instant now) : time_(now), bell_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    const auto whole = [this, url = std::move(url)] {
        auto result = read(url);
        eventfd_write(bell_, 1);
        return result;
    };
    try {
        result_ = std::async(std::launch::async, whole);
    } catch (const std::system_error&) {
        eventfd_write(bell_, 1);  // no thread
    }
}

PolicyReading::~PolicyReading() {
    // An interruption between two statements is none.
    while (result_.valid() && result_.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
        const std::lock_guard lock(mutex_);
        if (session_) session_->interrupt();
    }
    close(bell_);
}

bool PolicyReading::over() const {
    return !result_.valid() || result_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

std::optional<WholePolicy> PolicyReading::take() {
    taken_ = true;
    std::sort(helped_.begin(), helped_.end(), by_prefix);  // while the thread sorts what it has read
    auto whole = result_.valid() ? result_.get() : std::nullopt;
    if (!whole || helped_.empty()) return whole;
    // Into the room behind, from the back, so that none is overwritten before it is read. A third container would have
    // 20 MB at a million stay in the thread's arena; std::inplace_merge() takes 12 MB.
    std::deque<Right>& rights = whole->policy.rights;
    auto own = rights.size();
    rights.insert(rights.end(), helped_.begin(), helped_.end());
    for (auto to = rights.rbegin(); !helped_.empty(); ++to) {
        if (own > 0 && by_prefix(helped_.back(), rights[own - 1])) {
            *to = rights[--own];
        } else {
            *to = helped_.back();
            helped_.pop_back();
        }
    }
    const auto same = [](const Right& a, const Right& b) { return a.prefix == b.prefix; };
    rights.erase(std::unique(rights.begin(), rights.end(), same), rights.end());
    return whole;
}

/// With the same revision only: what is read must be from one view.
void PolicyReading::help(Database& session) {
    if (over()) return;
    const Reading reading(session);
    const Revision revision = current_revision(session);
    {
        const std::lock_guard lock(mutex_);
        if (revision_ != revision) return;
    }
    read_rights_from(From::last, session, helped_);
}

/// A page at a time, until nobody is left. Where both read the last page, both have it.
void PolicyReading::read_rights_from(From from, Database& session, std::deque<Right>& rights) {
    for (bool more = true; more;) {
        std::unique_lock lock(mutex_);
        CustomersLeft left = left_;
        lock.unlock();
        more = read_rights(session, time_, left, from, page, rights);
        lock.lock();
        left_.after = std::max(left_.after, left.after);
        left_.mostly_exempt = left_.mostly_exempt && left.mostly_exempt;
        if (left.before && (!left_.before || *left.before < *left_.before)) left_.before = std::move(left.before);
    }
}

/// May be interrupted as long as this lives.
class PolicyReading::Interruptible {
public:
    Interruptible(PolicyReading& reading, Database& session) : reading_(reading) { set(&session); }
    ~Interruptible() { set(nullptr); }
    Interruptible(const Interruptible&) = delete;
    Interruptible& operator=(const Interruptible&) = delete;

private:
    void set(Database* session) {
        const std::lock_guard lock(reading_.mutex_);
        reading_.session_ = session;
    }
    PolicyReading& reading_;
};

/// Whoever asks for it afterwards meets the same failure, and says it.
std::optional<WholePolicy> PolicyReading::read(const std::string& url) try {
    const auto session = open_database(url, OpenMode::read, service_patience);
    const Interruptible interruptible(*this, *session);
    const Reading reading(*session);
    Policy policy = read_policy_without_rights(*session);
    {
        const std::lock_guard lock(mutex_);
        revision_ = policy.revision;
    }
    read_rights_from(From::first, *session, policy.rights);
    // In the order of the customers' names, addresses mostly come in runs: what takes quicksort to its worst.
    std::stable_sort(policy.rights.begin(), policy.rights.end(), by_prefix);
    std::string mark = revision_mark(*session, policy.revision);
    return WholePolicy{std::move(policy), std::move(mark), time_};
} catch (const std::exception&) {
    return std::nullopt;
}

}  // namespace smtpfence
