#include "controller/journal.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

namespace smtpfence {

namespace {

/// systemd.exec(5): JOURNAL_STREAM holds device and inode of the stream; equal ones mean that standard error goes to
/// the journal.
bool under_journal() {
    const char* stream = std::getenv("JOURNAL_STREAM");
    unsigned long long device = 0;
    unsigned long long inode = 0;
    struct stat status {};
    return stream && std::sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &status) == 0 &&
           status.st_dev == device && status.st_ino == inode;
}

}  // namespace

void journal(Level level, const std::string& message,
             std::initializer_list<std::pair<const char*, std::string>> fields) {
    static const bool structured = under_journal();
    if (!structured) {
        std::fprintf(stderr, "smtpfence: %s\n", message.c_str());
        return;
    }
    std::vector<std::string> lines{"MESSAGE=" + message, "PRIORITY=" + std::to_string(static_cast<int>(level)),
                                   "SYSLOG_IDENTIFIER=smtpfence"};
    for (const auto& [name, value] : fields) lines.push_back(std::string("SMTPFENCE_") + name + "=" + value);
    std::vector<iovec> parts;
    for (std::string& line : lines) parts.push_back({line.data(), line.size()});
    sd_journal_sendv(parts.data(), static_cast<int>(parts.size()));
}

void journal_pass(int64_t revision, size_t changes, std::chrono::duration<double, std::milli> took) {
    journal(Level::notice,
            fmt::format("revision {} enforced: {} change{}, {:.1f} ms", revision, changes, changes == 1 ? "" : "s",
                        took.count()),
            {{"REVISION", std::to_string(revision)}, {"CHANGES", std::to_string(changes)}});
}

}  // namespace smtpfence
