#include "controller/standard_output.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <ostream>
#include <string>

using namespace smtpfence;

namespace {

/// File descriptor 1 is another one while this lives.
class Redirected {
public:
    explicit Redirected(int descriptor) : before_(dup(STDOUT_FILENO)) {
        REQUIRE(before_ >= 0);
        REQUIRE(dup2(descriptor, STDOUT_FILENO) == STDOUT_FILENO);
        close(descriptor);
    }
    ~Redirected() {
        dup2(before_, STDOUT_FILENO);
        close(before_);
    }
    Redirected(const Redirected&) = delete;
    Redirected& operator=(const Redirected&) = delete;

private:
    int before_;
};

/// What writing `text` to `descriptor` ends with: errno, 0 for none.
int written(int descriptor, const std::string& text) {
    const Redirected redirected(descriptor);
    StandardOutput buffer;
    std::ostream stream(&buffer);
    stream << text << std::flush;
    return buffer.error();
}

}  // namespace

TEST_CASE("standard output: everything arrives, in order, also what is larger than the buffer") {
    char path[] = "/tmp/smtpfence-output-XXXXXX";
    const int file = mkstemp(path);
    REQUIRE(file >= 0);
    std::string text;
    for (int i = 0; text.size() < 300000; ++i) text += std::to_string(i) + "\n";
    const int error = written(dup(file), text);
    std::string found(text.size() + 1, '\0');
    const ssize_t size = pread(file, found.data(), found.size(), 0);
    close(file);
    unlink(path);
    CHECK(error == 0);
    REQUIRE(size == static_cast<ssize_t>(text.size()));
    found.resize(text.size());
    CHECK((found == text));
}

TEST_CASE("standard output: a full device is remembered with its reason, and nothing more is tried") {
    CHECK(written(open("/dev/full", O_WRONLY), "x") == ENOSPC);
    CHECK(written(open("/dev/full", O_WRONLY), std::string(300000, 'x')) == ENOSPC);
    CHECK(written(open("/dev/null", O_RDONLY), "x") == EBADF);
}

TEST_CASE("standard output: a reader that left, where SIGPIPE is ignored") {
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    close(ends[0]);
    const auto before = std::signal(SIGPIPE, SIG_IGN);
    CHECK(written(ends[1], "x") == EPIPE);
    std::signal(SIGPIPE, before);
}
