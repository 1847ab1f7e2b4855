#pragma once
// What the service tells systemd (sd_notify(3)): that it is ready, what it does, and that it is alive. It never waits:
// what a supervisor doesn't take now is told again soon. Without NOTIFY_SOCKET in the environment nothing is told.

#include <string>

#include "controller/steady.hpp"

namespace smtpfence {

class Supervisor {
public:
    Supervisor();
    ~Supervisor();
    Supervisor(const Supervisor&) = delete;
    Supervisor& operator=(const Supervisor&) = delete;

    /// For the end of every turn in which the kernel was verified, or the failure reported: alive, with `status` in one
    /// line. `ready`: a fence is enforced; stays told until reloading().
    void tell(const std::string& status, bool ready, Steady::time_point);
    /// The configuration is being read again; the next tell() may say ready.
    void reloading();
    void stopping();
    /// When tell() is due at the latest.
    Steady::time_point due(Steady::time_point) const;

private:
    bool send(const std::string& message);

    int descriptor_ = -1;
    std::string address_;          ///< of the supervisor's socket, as the kernel takes it
    Steady::duration watchdog_{};  ///< 0: systemd doesn't watch
    std::string told_;             ///< the last status
    bool ready_ = false;           ///< told
    Retry retry_{std::chrono::milliseconds(100)};
};

}  // namespace smtpfence
