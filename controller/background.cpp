#include "controller/background.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace smtpfence {

Background::Background() : bell_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (bell_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

Background::~Background() {
    if (thread_.joinable()) {
        {
            const std::lock_guard lock(mutex_);
            ending_ = true;
        }
        work_.notify_one();
        thread_.join();
    }
    close(bell_);
}

void Background::start(std::function<void()> task) {
    std::packaged_task<void()> packaged(std::move(task));
    result_ = packaged.get_future();
    try {
        if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
    } catch (const std::system_error&) {
        packaged();
        eventfd_write(bell_, 1);
        return;
    }
    {
        const std::lock_guard lock(mutex_);
        task_ = std::move(packaged);
    }
    work_.notify_one();
}

void Background::run() {
    for (;;) {
        std::unique_lock lock(mutex_);
        work_.wait(lock, [this] { return ending_ || task_.valid(); });
        if (!task_.valid()) return;
        std::packaged_task<void()> task = std::exchange(task_, {});
        lock.unlock();
        task();
        eventfd_write(bell_, 1);
    }
}

void Background::end() {
    while (!rung(-1)) {
    }
    eventfd_t count = 0;
    eventfd_read(bell_, &count);
    result_.get();
}

bool Background::rung(int milliseconds) const {
    pollfd bell{bell_, POLLIN, 0};
    return poll(&bell, 1, milliseconds) == 1;
}

}  // namespace smtpfence
