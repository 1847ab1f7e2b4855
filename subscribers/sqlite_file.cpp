#include "subscribers/sqlite_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "subscribers/ownership.hpp"
#include "subscribers/sqlite_failure.hpp"

namespace smtpfence {

std::optional<FileIdentity> identity_of(const std::string& path) {
    struct stat status {};
    if (stat(path.c_str(), &status) != 0) return {};
    return FileIdentity{status.st_dev, status.st_ino};
}

FileStamp stamp_of(const struct stat& status) {
    return {status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

std::string resolved(const std::string& path) {
    std::error_code error;
    const auto file = std::filesystem::canonical(path, error);
    return error ? path : file.string();
}

off_t log_size(const std::string& path) {
    struct stat log {};
    return stat((path + "-wal").c_str(), &log) == 0 ? log.st_size : 0;
}

void fail_to_open(const std::string& path, OpenMode mode, int error) {
    using enum DatabaseError::Kind;
    const bool read_only = error == EACCES || error == EPERM || error == EROFS;
    const auto kind = read_only ? denied : error == ENOSPC || error == EDQUOT ? full : failed;
    const bool missing = error == ENOENT && mode != OpenMode::create;
    throw DatabaseError(kind, fmt::format("{}{}: {}; {}", sqlite_scheme, path, std::strerror(error),
                                          missing ? "make it with 'smtpfence init'" : advice(kind, path)));
}

void create_database_file(const std::string& path) {
    const auto folder = std::filesystem::path(path).parent_path();
    std::error_code error;
    if (!folder.empty() && !std::filesystem::exists(folder, error)) {
        std::filesystem::create_directories(folder, error);
        if (error) fail_to_open(path, OpenMode::create, error.value());
    }
    // Made here and not by SQLite for its mode; the -wal and -shm files take theirs from it.
    const int file = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    if (file == -1) {
        if (errno == EEXIST) return;
        fail_to_open(path, OpenMode::create, errno);
    }
    fchmod(file, 0640);
    const int reason = give_to_owner(file, folder) ? 0 : errno;
    close(file);
    if (reason != 0) fail_to_open(path, OpenMode::create, reason);
}

void require_database_file(const std::string& path, OpenMode mode) {
    struct stat status {};
    if (stat(path.c_str(), &status) != 0) fail_to_open(path, mode, errno);
    if (S_ISDIR(status.st_mode)) fail_to_open(path, mode, EISDIR);
    if (faccessat(AT_FDCWD, path.c_str(), mode == OpenMode::read ? R_OK : R_OK | W_OK, AT_EACCESS) != 0)
        fail_to_open(path, mode, errno);
}

bool on_read_only_file_system(const std::string& path) {
    struct statvfs system {};
    return statvfs(path.c_str(), &system) == 0 && (system.f_flag & ST_RDONLY) != 0;
}

}  // namespace smtpfence
