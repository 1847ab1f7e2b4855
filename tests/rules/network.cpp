#include "rules/network.hpp"

#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <system_error>

namespace smtpfence {

namespace {

int this_network() { return open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC); }

void check(bool fine, const char* what) {
    if (!fine) throw std::system_error(errno, std::generic_category(), what);
}

/// A file in memory, closed at the end.
struct MemoryFile {
    int descriptor = memfd_create("nft", MFD_CLOEXEC);
    explicit MemoryFile(const std::string& content = {}) {
        check(descriptor >= 0, "memfd_create");
        check(write(descriptor, content.data(), content.size()) == static_cast<ssize_t>(content.size()), "write");
        check(lseek(descriptor, 0, SEEK_SET) == 0, "lseek");
    }
    ~MemoryFile() { close(descriptor); }
    MemoryFile(const MemoryFile&) = delete;
    MemoryFile& operator=(const MemoryFile&) = delete;

    std::string content() const {
        std::string text(static_cast<size_t>(lseek(descriptor, 0, SEEK_END)), '\0');
        check(pread(descriptor, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()), "pread");
        return text;
    }
};

}  // namespace

FreshNetwork::FreshNetwork() : before_(this_network()) {
    check(before_ >= 0, "open network namespace");
    check(unshare(CLONE_NEWNET) == 0, "unshare(CLONE_NEWNET): these tests need root");
    own_ = this_network();
}

FreshNetwork::~FreshNetwork() {
    setns(before_, CLONE_NEWNET);
    close(before_);
    close(own_);
}

void FreshNetwork::enter() const { check(setns(own_, CLONE_NEWNET) == 0, "setns"); }

std::string nft(const std::vector<std::string>& arguments, const std::string& input) {
    MemoryFile in(input), out, error;
    std::vector<char*> words = {const_cast<char*>("nft")};
    for (const std::string& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
    words.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in.descriptor, 0);
    posix_spawn_file_actions_adddup2(&actions, out.descriptor, 1);
    posix_spawn_file_actions_adddup2(&actions, error.descriptor, 2);
    pid_t child = -1;
    const int failure = posix_spawnp(&child, "nft", &actions, nullptr, words.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failure != 0) throw std::system_error(failure, std::generic_category(), "nft");
    int status = 0;
    check(waitpid(child, &status, 0) == child, "waitpid");
    if (status != 0) throw std::runtime_error("nft failed: " + error.content());
    return out.content();
}

std::string without_expiry(const std::string& listing) {
    return std::regex_replace(listing, std::regex(" expires [0-9a-z]+"), "");
}

std::string without_timeouts(const std::string& listing) {
    return std::regex_replace(without_expiry(listing), std::regex("([0-9a-f:.]) timeout [0-9a-z]+"), "$1");
}

std::string sorted(const std::string& listing) {
    std::vector<std::string> blocks;
    std::string head, line;
    for (std::istringstream lines(listing); std::getline(lines, line);) {
        const bool begins = line.starts_with("\tset ") || line.starts_with("\tmap ") || line.starts_with("\tchain ");
        if (begins) blocks.emplace_back();
        if (!line.empty() && line != "}") (blocks.empty() ? head : blocks.back()) += line + "\n";
    }
    std::sort(blocks.begin(), blocks.end());
    for (const std::string& block : blocks) head += block;
    return head;
}

std::string without_table_flags(const std::string& listing) {
    const std::string plain = std::regex_replace(listing, std::regex(" # progname [^\\n]*"), "");
    return std::regex_replace(plain, std::regex("(table inet smtpfence \\{\\n)(\\tflags [^\\n]*\\n)"), "$1");
}

}  // namespace smtpfence
