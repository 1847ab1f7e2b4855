#include "rules/netlink_error.hpp"

#include <cerrno>
#include <cstring>

namespace smtpfence {

namespace {

/// The reason, and what to do about it.
std::string explanation(int code) {
    switch (code) {
        case EPERM:
            return "permission denied; CAP_NET_ADMIN is needed: run as root on the router, or give the container that "
                   "capability";
        case ENOENT:
            return "it does not exist: something else changed the table; compare and apply again";
        case EEXIST:
            return "it exists and differs: something else changed the table; compare and apply again";
        case EBUSY:
            return "it is still in use: something else changed the table; compare and apply again";
        case ENFILE:
            return "the set is full; applying everything again replaces it by a larger one";
        case ENOMEM:
            return "the kernel is out of memory (a container's limit counts too); free some and apply again";
        case EMSGSIZE:
            return "the message is too large for the kernel; apply fewer changes at once";
        case EOPNOTSUPP:
            return "this kernel does not support it; load the module nf_tables, or use Linux 6.1 or newer";
        case ERESTART:
            return "another program changed nftables meanwhile; apply again";
        case EAGAIN:
        case EINTR:
        case ENOBUFS:
            return std::string(std::strerror(code)) + "; apply again";
        default:
            return std::string(std::strerror(code)) + " (error " + std::to_string(code) + ")";
    }
}

}  // namespace

KernelError error_about(int code, const std::string& object) {
    return {code, object, object + ": " + explanation(code)};
}

}  // namespace smtpfence
