#pragma once
// One task at a time in a thread of its own, for what waits and that nobody shall wait for.
//
//   background.start([flush] { flush.run(); });
//   ...                                            // background.descriptor() is readable when it is over
//   if (background.over()) background.end();       // throws what it threw

#include <condition_variable>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

namespace smtpfence {

class Background {
public:
    /// Throws std::system_error without a descriptor for it.
    Background();
    /// Waits for the task.
    ~Background();
    Background(const Background&) = delete;
    Background& operator=(const Background&) = delete;

    /// Not while it is busy. Where the machine has no thread for it, the task runs before this returns.
    void start(std::function<void()> task);
    /// A task was started that end() wasn't called for.
    bool busy() const { return result_.valid(); }
    /// ... and end() doesn't wait.
    bool over() const { return busy() && rung(0); }
    /// Waits for the task. Throws what it threw.
    void end();

    int descriptor() const { return bell_; }

private:
    bool rung(int milliseconds) const;  ///< -1: waits for it
    void run();

    int bell_ = -1;
    std::future<void> result_;
    std::mutex mutex_;
    std::condition_variable work_;
    // Guarded by the mutex:
    std::packaged_task<void()> task_;  ///< valid: to be run
    bool ending_ = false;
    std::thread thread_;  ///< from the first task on
};

}  // namespace smtpfence
