#include "controller/background.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <system_error>
#include <utility>

namespace smtpfence {

Background::Background() : bell_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (bell_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

Background::~Background() {
    if (thread_.joinable()) thread_.join();
    close(bell_);
}

void Background::start(std::function<void()> task) {
    const auto packaged = std::make_shared<std::packaged_task<void()>>(std::move(task));
    result_ = packaged->get_future();
    const auto run = [this, packaged] {
        (*packaged)();
        eventfd_write(bell_, 1);
    };
    try {
        thread_ = std::thread(run);
    } catch (const std::system_error&) {
        run();
    }
}

bool Background::over() const {
    return busy() && result_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

void Background::end() {
    if (thread_.joinable()) thread_.join();
    eventfd_t rung = 0;
    eventfd_read(bell_, &rung);
    result_.get();
}

}  // namespace smtpfence
