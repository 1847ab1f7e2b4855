#include "controller/actor.hpp"

#include <pwd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <fstream>
#include <system_error>
#include <vector>

#include "subscribers/customer.hpp"

namespace smtpfence {

namespace {

constexpr uid_t unset = static_cast<uid_t>(-1);

uid_t audit_login() {
    std::ifstream file("/proc/self/loginuid");
    uid_t user = unset;
    return file >> user ? user : unset;
}

std::string account(uid_t user) {
    passwd entry{};
    passwd* found = nullptr;
    std::vector<char> room(16384);
    if (getpwuid_r(user, &entry, room.data(), room.size(), &found) == 0 && found) return found->pw_name;
    return "uid " + std::to_string(user);
}

}  // namespace

std::string current_login() {
    if (const uid_t user = audit_login(); user != unset) return account(user);
    // Anybody can set the variable; only who is root already has no need to lie with it.
    const char* sudo_user = std::getenv("SUDO_USER");
    if (geteuid() == 0 && sudo_user && *sudo_user) return sudo_user;
    return account(getuid());
}

std::string host_name() {
    std::array<char, HOST_NAME_MAX + 1> name{};
    if (gethostname(name.data(), name.size()) != 0)
        throw std::system_error(errno, std::generic_category(), "host name");
    name.back() = '\0';
    return name.data();
}

Actor current_actor(const std::optional<std::string>& operator_name) {
    if (operator_name) check_text("operator", *operator_name);
    return {current_login(), operator_name, host_name()};
}

}  // namespace smtpfence
