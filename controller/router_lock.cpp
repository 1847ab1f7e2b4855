#include "controller/router_lock.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "subscribers/error.hpp"

namespace smtpfence {

namespace {

std::string lock_path(const std::string& state_directory) { return state_directory + "/lock"; }

std::string holder_pid(int descriptor) {
    char text[32] = {};
    const ssize_t length = pread(descriptor, text, sizeof text - 1, 0);
    return length > 0 ? std::string(text, static_cast<size_t>(length)) : "unknown";
}

}  // namespace

RouterLock::RouterLock(const std::string& state_directory) {
    std::error_code error;
    std::filesystem::create_directories(state_directory, error);
    if (error) throw std::system_error(error, "state_directory " + state_directory + " can't be created");
    const std::string path = lock_path(state_directory);
    descriptor_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (descriptor_ < 0) throw std::system_error(errno, std::generic_category(), path + " can't be opened");
    if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
        const std::string pid = holder_pid(descriptor_);
        close(descriptor_);
        throw Refused(Refusal::conflict,
                      fmt::format("the table is written by process {} (lock {}); stop it first, or use "
                                  "'smtpfence apply', which hands its request to a running service",
                                  pid, path));
    }
    const std::string pid = std::to_string(getpid());
    if (ftruncate(descriptor_, 0) != 0 || pwrite(descriptor_, pid.data(), pid.size(), 0) < 0) {
        const int reason = errno;
        close(descriptor_);
        throw std::system_error(reason, std::generic_category(), path + " can't be written");
    }
}

RouterLock::~RouterLock() { close(descriptor_); }

bool RouterLock::held(const std::string& state_directory) {
    const int descriptor = open(lock_path(state_directory).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (descriptor < 0) return false;
    const bool taken = flock(descriptor, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(descriptor);
    return taken;
}

bool RouterLock::ever_held(const std::string& state_directory) {
    return access(lock_path(state_directory).c_str(), F_OK) == 0;
}

}  // namespace smtpfence
