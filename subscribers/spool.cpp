#include "subscribers/spool.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <utility>
#include <vector>

namespace smtpfence {

namespace {

class Spool {
public:
    explicit Spool(const std::string& name) : name_(name) {
        const char* given = std::getenv("TMPDIR");
        folder_ = given && *given ? given : "/var/tmp";
        file_ = open(folder_.c_str(), O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
        if (file_ == -1) make_and_unlink();  // not every file system can
    }
    ~Spool() {
        if (file_ != -1) close(file_);
    }
    Spool(const Spool&) = delete;
    Spool& operator=(const Spool&) = delete;

    void add(const char* from, size_t size) const {
        while (size > 0) {
            const ssize_t count = write(file_, from, size);
            if (count == -1 && errno == EINTR) continue;
            if (count == -1) fail();
            from += count;
            size -= static_cast<size_t>(count);
        }
    }

    int release() {
        if (lseek(file_, 0, SEEK_SET) == -1) fail();
        return std::exchange(file_, -1);
    }

private:
    [[noreturn]] void fail() const {
        throw std::runtime_error(fmt::format(
            "{} can't be kept in {}: {}; nothing was written; make room there, name another folder in TMPDIR, or write "
            "it to a file and import that",
            name_, folder_, std::strerror(errno)));
    }
    void make_and_unlink() {
        std::string path = folder_ + "/smtpfence-import-XXXXXX";
        file_ = mkostemp(path.data(), O_CLOEXEC);
        if (file_ == -1) fail();
        unlink(path.c_str());
    }

    std::string name_, folder_;
    int file_ = -1;
};

}  // namespace

int spooled(int from, const std::string& name, const std::function<void(int64_t bytes)>& progress) {
    Spool spool(name);
    std::vector<char> buffer(size_t{1} << 18);
    for (int64_t bytes = 0;;) {
        const ssize_t count = read(from, buffer.data(), buffer.size());
        if (count == -1 && errno == EINTR) continue;
        if (count == -1) {
            throw std::runtime_error(
                fmt::format("{} can't be read: {}; nothing was written", name, std::strerror(errno)));
        }
        if (count == 0) return spool.release();
        spool.add(buffer.data(), static_cast<size_t>(count));
        bytes += count;
        if (progress) progress(bytes);
    }
}

}  // namespace smtpfence
