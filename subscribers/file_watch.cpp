#include "subscribers/file_watch.hpp"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

namespace smtpfence {

FileWatch::FileWatch(const std::string& path) : log_(path + "-wal") {
    const size_t slash = path.rfind('/');
    folder_ = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
    descriptor_ = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (descriptor_ == -1) return;
    constexpr uint32_t folder_events = IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM | IN_ONLYDIR;
    if (inotify_add_watch(descriptor_, folder_.c_str(), folder_events) == -1) {
        close(descriptor_);
        descriptor_ = -1;
        return;
    }
    watch_log();
}

FileWatch::~FileWatch() {
    if (descriptor_ != -1) close(descriptor_);
}

void FileWatch::watch_log() {
    // For the same file the kernel gives the same watch back, so asking again is no harm.
    const int watch = inotify_add_watch(descriptor_, log_.c_str(), IN_MODIFY | IN_ATTRIB);
    if (log_watch_ != -1 && log_watch_ != watch) inotify_rm_watch(descriptor_, log_watch_);
    log_watch_ = watch;
}

bool FileWatch::drain() {
    if (descriptor_ == -1) return false;
    bool written = read_away();
    watch_log();
    // Removing the watch of a replaced log leaves an event of its own.
    written = read_away() || written;
    return written;
}

bool FileWatch::read_away() {
    alignas(inotify_event) std::array<char, 4096> events{};
    bool written = false;
    for (ssize_t size; (size = read(descriptor_, events.data(), events.size())) > 0;) {
        for (const char* at = events.data(); at < events.data() + size;) {
            const auto* event = reinterpret_cast<const inotify_event*>(at);
            written = written || (event->mask & IN_ATTRIB) == 0;
            at += sizeof *event + event->len;
        }
    }
    return written;
}

void wake_watches(const std::string& path) { utimensat(AT_FDCWD, (path + "-wal").c_str(), nullptr, 0); }

}  // namespace smtpfence
