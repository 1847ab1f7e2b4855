// Configuration files.

#include "controller/configuration.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include "property.hpp"

namespace {

/// A file that only this process sees.
struct File {
    int descriptor = memfd_create("configuration", MFD_CLOEXEC);
    explicit File(std::string_view content) {
        smtpfence::must("the file is written",
                        write(descriptor, content.data(), content.size()) == static_cast<ssize_t>(content.size()));
    }
    ~File() { close(descriptor); }
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor); }
};

}  // namespace

void smtpfence::fuzz(std::string_view input) {
    const File file(input);
    try {
        const Configuration read = read_configuration(file.path(), false);
        for (const std::string& pattern : read.border.subscriber)
            must("an interface pattern is a key", interface_key(pattern).length > 0);
        must("relays have their bounds", read.guard.relay.widest4 <= 32 && read.guard.relay.widest6 <= 128);
        must("durations are positive", read.keep > Seconds{0} && read.poll > Seconds{0} && read.verify > Seconds{0});
        must("a router has a name", !read.router.empty() && is_utf8(read.router) && !has_control(read.router));
    } catch (const ConfigurationError& error) {
        const std::string_view message = error.what();
        must("a message names the file", message.find("/proc/self/fd/") != std::string_view::npos);
        must("a message is one printable line", is_utf8(message) && !has_control(message));
    }
}
