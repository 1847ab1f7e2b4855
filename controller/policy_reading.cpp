#include "controller/policy_reading.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <system_error>
#include <utility>

#include "subscribers/revision.hpp"

namespace smtpfence {

PolicyReading::PolicyReading(std::string url, Instant now) : bell_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    const auto whole = [this, url = std::move(url), now] {
        auto result = read(url, now);
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
    return result_.valid() ? result_.get() : std::nullopt;
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
std::optional<WholePolicy> PolicyReading::read(const std::string& url, Instant now) try {
    const auto session = open_database(url, OpenMode::read, service_patience);
    const Interruptible interruptible(*this, *session);
    Policy policy = read_policy(*session, now);
    std::string mark = revision_mark(*session, policy.revision);
    return WholePolicy{std::move(policy), std::move(mark), now};
} catch (const std::exception&) {
    return std::nullopt;
}

}  // namespace smtpfence
