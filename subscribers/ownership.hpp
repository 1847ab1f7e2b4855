#pragma once
// What root makes for the service, which runs as another user.

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

namespace smtpfence {

/// A file that root has just made in a directory gets its owner, so that the service can use what `init` or `apply`
/// left there. `descriptor` must not be of a file that was there before: somebody else may have put it there. False:
/// it can't be given away (errno).
inline bool give_to_owner(int descriptor, const std::filesystem::path& directory) {
    struct stat owner {};
    if (geteuid() != 0) return true;
    return stat(directory.empty() ? "." : directory.c_str(), &owner) == 0 &&
           fchown(descriptor, owner.st_uid, owner.st_gid) == 0;
}

}  // namespace smtpfence
