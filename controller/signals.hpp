#pragma once
// The signals that steer the service (SIGTERM, SIGINT, SIGHUP), delivered through a descriptor instead of interrupting
// it.

namespace smtpfence {

class Signals {
public:
    /// Blocks the signals for the process from here on. Throws std::system_error.
    Signals();
    ~Signals();
    Signals(const Signals&) = delete;
    Signals& operator=(const Signals&) = delete;

    /// Readable when one is pending.
    int descriptor() const { return descriptor_; }
    /// The next pending signal, 0 when there is none.
    int next() const;

private:
    int descriptor_ = -1;
};

}  // namespace smtpfence
