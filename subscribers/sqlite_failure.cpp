#include "subscribers/sqlite_failure.hpp"

#include <fmt/format.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "subscribers/sqlite_file.hpp"

namespace smtpfence {

using Kind = DatabaseError::Kind;

namespace {

std::string process_name(const std::string& process) {
    std::string name;
    std::getline(std::ifstream("/proc/" + process + "/comm"), name);
    return name;
}

}  // namespace

std::string lock_holder(const std::string& path) {
    const auto file = identity_of(path), shm = identity_of(path + "-shm");
    constexpr int64_t write_lock = 120;
    std::ifstream locks("/proc/locks");
    for (std::string line; std::getline(locks, line);) {
        // 1: POSIX  ADVISORY  WRITE 1234 fd:00:5678 120 120
        std::istringstream words(line);
        std::string number, api, advisory, mode, process, place, begin, end;
        words >> number >> api >> advisory >> mode >> process >> place >> begin >> end;
        if (mode != "WRITE") continue;
        const std::string inode = place.substr(place.rfind(':') + 1);
        const int64_t last = end == "EOF" ? write_lock : std::strtoll(end.c_str(), nullptr, 10);
        const bool writes = shm && inode == std::to_string(shm->inode) &&
                            std::strtoll(begin.c_str(), nullptr, 10) <= write_lock && last >= write_lock;
        if (!writes && !(file && inode == std::to_string(file->inode))) continue;
        if (process == std::to_string(getpid())) return " by this process";
        return fmt::format(" by process {} ({})", process, process_name(process));
    }
    return {};
}

Kind kind_of(int result, int system_error) {
    switch (result & 0xff) {
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
            return Kind::locked;
        case SQLITE_READONLY:
        case SQLITE_PERM:
        case SQLITE_AUTH:
            return Kind::denied;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
            return Kind::corrupt;
        case SQLITE_FULL:
            return Kind::full;
        case SQLITE_IOERR:
        case SQLITE_CANTOPEN:
            if (system_error == ENOSPC || system_error == EDQUOT) return Kind::full;
            if (system_error == EACCES || system_error == EPERM || system_error == EROFS) return Kind::denied;
            return Kind::failed;
        default:
            return Kind::failed;
    }
}

std::string advice(Kind kind, const std::string& path) {
    const std::string folder = std::filesystem::path(path).parent_path().string();
    switch (kind) {
        case Kind::locked:
            return "try again when that has ended";
        case Kind::denied:
            if (on_read_only_file_system(path)) return "nothing was written; mount it writable, or name another file";
            return fmt::format("run as a user who may write it and its folder {}", folder.empty() ? "." : folder);
        case Kind::corrupt:
            return "nothing was written; restore it from a backup";
        case Kind::full:
            return "nothing was written; free space on its file system";
        default:
            return "nothing was written";
    }
}

}  // namespace smtpfence
