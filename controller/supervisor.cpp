#include "controller/supervisor.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace smtpfence {

namespace {

// sd_notify() itself waits for a supervisor whose queue is full.
constexpr int socket_kind = SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK;

}  // namespace

Supervisor::Supervisor() {
    const char* address = std::getenv("NOTIFY_SOCKET");
    if (!address || (address[0] != '/' && address[0] != '@') || std::strlen(address) >= sizeof(sockaddr_un::sun_path))
        return;
    address_ = address;
    if (address_[0] == '@') address_[0] = '\0';  // the abstract name space, unix(7)
    descriptor_ = socket(AF_UNIX, socket_kind, 0);
    uint64_t period = 0;
    if (sd_watchdog_enabled(0, &period) > 0) watchdog_ = std::chrono::microseconds(period);
}

Supervisor::~Supervisor() {
    if (descriptor_ != -1) close(descriptor_);
}

bool Supervisor::send(const std::string& message) {
    if (descriptor_ == -1) return true;
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    std::memcpy(to.sun_path, address_.data(), address_.size());
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
    return sendto(descriptor_, message.data(), message.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&to),
                  size) >= 0;
}

void Supervisor::tell(const std::string& status, bool ready, Steady::time_point t) {
    const bool ready_is_news = ready && !ready_;
    if (status == told_ && !ready_is_news && watchdog_ == Steady::duration{}) return;
    if (!retry_.due(t)) return;
    std::string message = "WATCHDOG=1\nSTATUS=" + status;
    if (ready_is_news) message += "\nREADY=1";
    if (!send(message)) return retry_.failed(t);
    retry_.succeeded();
    told_ = status;
    ready_ = ready_ || ready;
}

void Supervisor::reloading() {
    const auto now = std::chrono::duration_cast<std::chrono::microseconds>(Steady::now().time_since_epoch());
    send(fmt::format("RELOADING=1\nMONOTONIC_USEC={}", now.count()));
    ready_ = false;
}

void Supervisor::stopping() { send("STOPPING=1"); }

Steady::time_point Supervisor::due(Steady::time_point t) const {
    if (!retry_.due(t)) return retry_.at();
    return watchdog_ == Steady::duration{} ? Steady::time_point::max() : t + watchdog_ / 2;
}

}  // namespace smtpfence
