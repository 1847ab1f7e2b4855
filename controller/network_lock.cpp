#include "controller/network_lock.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>

#include "subscribers/error.hpp"

namespace smtpfence {

namespace {

constexpr std::string_view lock_name("\0smtpfence/table", 16);  // the zero makes it abstract

constexpr int most_attempts = 50;
constexpr std::chrono::milliseconds attempt_pause{10};

struct Address {
    sockaddr_un address{};
    socklen_t size = offsetof(sockaddr_un, sun_path) + lock_name.size();

    Address() {
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, lock_name.data(), lock_name.size());
    }
    const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
};

int open_socket() {
    const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) throw std::system_error(errno, std::generic_category(), "the table's lock can't be made");
    return descriptor;
}

/// nullopt: nobody listens (any more).
std::optional<ucred> holder() {
    const int descriptor = open_socket();
    const Address address;
    ucred peer{};
    socklen_t size = sizeof peer;
    // With a full queue the holder is there all the same, but not to be asked.
    const bool there = connect(descriptor, address.get(), address.size) == 0;
    const bool crowded = !there && errno == EAGAIN;
    const bool known = there && getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
    close(descriptor);
    if (crowded) return ucred{};
    return known ? std::optional(peer) : std::nullopt;
}

bool believed(const ucred& peer, const std::string& state_directory) {
    struct stat state {};
    const bool owner = stat(state_directory.c_str(), &state) == 0 && peer.uid == state.st_uid;
    return peer.uid == 0 || peer.uid == geteuid() || owner;
}

}  // namespace

std::string process_words(long pid) {
    if (pid <= 0) return "a process that can't be named";
    std::ifstream file(fmt::format("/proc/{}/comm", pid));
    std::string program;
    if (!std::getline(file, program)) return fmt::format("process {}", pid);
    return fmt::format("process {} ({})", pid, program);
}

std::string taken_words(const std::string& process, const std::string& where) {
    return fmt::format(
        "the table is written by {} ({}); stop it first, or use 'smtpfence apply', which hands its "
        "request to a running service",
        process, where);
}

NetworkLock::NetworkLock(const std::string& state_directory) : descriptor_(open_socket()) {
    const Address address;
    int attempts = 0;
    while (bind(descriptor_, address.get(), address.size) != 0 || listen(descriptor_, SOMAXCONN) != 0) {
        const int reason = errno;
        const auto peer = reason == EADDRINUSE ? holder() : std::nullopt;
        // A name that is taken without anybody listening is no process of ours, unless it is just about to.
        const bool nobody = reason == EADDRINUSE && !peer && ++attempts > most_attempts;
        if (nobody || (peer && !believed(*peer, state_directory))) return;
        if (peer || reason != EADDRINUSE) close(descriptor_);
        if (peer) {
            throw Refused(Refusal::conflict,
                          taken_words(process_words(peer->pid), "it holds this network namespace's lock"));
        }
        if (reason != EADDRINUSE)
            throw std::system_error(reason, std::generic_category(), "the table's lock can't be taken");
        std::this_thread::sleep_for(attempt_pause);
    }
}

void NetworkLock::turn_away() {
    for (int visitor = 0; (visitor = accept4(descriptor_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) close(visitor);
}

NetworkLock::~NetworkLock() { close(descriptor_); }

}  // namespace smtpfence
