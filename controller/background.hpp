#pragma once
// One task at a time in a thread of its own, for what waits and that nobody shall wait for.
//
//   background.start([flush] { flush.run(); });
//   ...                                            // background.descriptor() is readable when it is over
//   if (background.over()) background.end();       // throws what it threw

#include <functional>
#include <future>
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

    /// Not while it is busy. Where the machine has no more threads, the task runs before this returns.
    void start(std::function<void()> task);
    /// A task was started that end() wasn't called for.
    bool busy() const { return result_.valid(); }
    /// ... and end() doesn't wait.
    bool over() const;
    /// Waits for the task. Throws what it threw.
    void end();

    int descriptor() const { return bell_; }

private:
    int bell_ = -1;
    std::future<void> result_;
    std::thread thread_;
};

}  // namespace smtpfence
