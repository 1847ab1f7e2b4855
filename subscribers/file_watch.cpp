#include "subscribers/file_watch.hpp"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "subscribers/sqlite_file.hpp"

namespace smtpfence {

namespace {

int watch_folder_of(int descriptor, const std::string& path) {
    const size_t slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
    return inotify_add_watch(descriptor, folder.c_str(),
                             IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM | IN_ONLYDIR);
}

}  // namespace

FileWatch::FileWatch(const std::string& path) : path_(path) {
    descriptor_ = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (descriptor_ == -1) return;
    named_folder_ = watch_folder_of(descriptor_, path_);
    if (named_folder_ == -1) {
        close(descriptor_);
        descriptor_ = -1;
        return;
    }
    watch_file();
}

FileWatch::~FileWatch() {
    if (descriptor_ != -1) close(descriptor_);
}

void FileWatch::watch_file() {
    // For the same file the kernel gives the same watch back, so asking again is no harm.
    const auto move = [&](int& watch, int to) {
        if (watch != -1 && watch != to && watch != named_folder_) inotify_rm_watch(descriptor_, watch);
        watch = to;
    };
    // While there is no file it is awaited where it was.
    if (std::string file = resolved(path_); file != file_ && (file_.empty() || identity_of(file))) {
        file_ = std::move(file);
        move(folder_, watch_folder_of(descriptor_, file_));
    }
    move(log_, inotify_add_watch(descriptor_, (file_ + "-wal").c_str(), IN_MODIFY | IN_ATTRIB));
}

bool FileWatch::drain() {
    if (descriptor_ == -1) return false;
    bool written = read_away();
    watch_file();
    // Removing the watch of what was replaced leaves an event of its own.
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
