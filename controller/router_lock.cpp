#include "controller/router_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "subscribers/error.hpp"
#include "subscribers/ownership.hpp"

namespace smtpfence {

namespace {

std::string lock_path(const std::string& state_directory) { return state_directory + "/lock"; }

/// 0: not told.
long holder_pid(int descriptor) {
    char text[32] = {};
    const ssize_t length = pread(descriptor, text, sizeof text - 1, 0);
    return length > 0 ? std::strtol(text, nullptr, 10) : 0;
}

}  // namespace

RouterLock::RouterLock(const std::string& state_directory) {
    std::error_code error;
    std::filesystem::create_directories(state_directory, error);
    if (error) throw std::system_error(error, "state_directory " + state_directory + " can't be created");
    const std::string path = lock_path(state_directory);
    constexpr int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
    descriptor_ = open(path.c_str(), flags | O_CREAT | O_EXCL, 0644);
    if (descriptor_ >= 0 && !give_to_owner(descriptor_, state_directory)) {
        const int reason = errno;
        close(descriptor_);
        throw std::system_error(reason, std::generic_category(), path + " can't be given to the service's user");
    }
    if (descriptor_ < 0 && errno == EEXIST) descriptor_ = open(path.c_str(), flags);
    if (descriptor_ < 0) {
        const bool denied = errno == EACCES;
        throw std::system_error(
            errno, std::generic_category(),
            path + (denied ? " can't be opened by this user, run as root or as the service's" : " can't be opened"));
    }
    if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
        const long pid = holder_pid(descriptor_);
        close(descriptor_);
        throw Refused(Refusal::conflict, taken_words(process_words(pid), "it holds " + path));
    }
    try {
        network_.emplace(state_directory);
    } catch (...) {
        close(descriptor_);
        throw;
    }
    const std::string pid = std::to_string(getpid());
    if (ftruncate(descriptor_, 0) != 0 || pwrite(descriptor_, pid.data(), pid.size(), 0) < 0) {
        const int reason = errno;
        close(descriptor_);
        throw std::system_error(reason, std::generic_category(), path + " can't be written");
    }
}

RouterLock::~RouterLock() { close(descriptor_); }

bool RouterLock::ever_held(const std::string& state_directory) {
    return access(lock_path(state_directory).c_str(), F_OK) == 0;
}

}  // namespace smtpfence
