#include "rules/netlink_watch.hpp"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace smtpfence {

namespace {

constexpr int group = NFNLGRP_NFTABLES;
constexpr int buffer_limit = 4 << 20;  // a commit of some thousand elements

[[noreturn]] void fail(int code) {
    throw KernelError(code, "netlink socket",
                      std::string("other programs' changes to nftables can't be heard of: ") + std::strerror(code) +
                          "; run with CAP_NET_ADMIN");
}

/// Passes everything but the commits of the socket `own_port`.
bool filter(int descriptor, uint32_t own_port) {
    // The filter reads numbers as if they were big-endian, and those of nlmsghdr aren't.
    sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(nlmsghdr, nlmsg_pid)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(own_port), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, ~0U),
    };
    const sock_fprog program{std::size(code), code};
    return setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
}

}  // namespace

NetlinkWatch::~NetlinkWatch() {
    if (descriptor_ >= 0) close(descriptor_);
}

void NetlinkWatch::open(uint32_t own_port) {
    descriptor_ = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
    if (descriptor_ < 0) fail(errno);
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    if (bind(descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
        filter(descriptor_, own_port)) {
        setsockopt(descriptor_, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_limit, sizeof buffer_limit);
        return;
    }
    const int code = errno;
    close(descriptor_);
    descriptor_ = -1;
    fail(code);
}

void NetlinkWatch::join(uint32_t own_port) {
    if (joined_) return;
    if (descriptor_ < 0) open(own_port);
    if (setsockopt(descriptor_, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0) fail(errno);
    joined_ = true;
}

void NetlinkWatch::leave() {
    if (!joined_) return;
    setsockopt(descriptor_, SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, &group, sizeof group);
    joined_ = false;
}

std::vector<ForeignCommit> NetlinkWatch::commits() {
    alignas(nlmsghdr) char buffer[32 << 10];  // the kernel tells in pieces of at most a page
    while (descriptor_ >= 0) {
        const ssize_t size = recv(descriptor_, buffer, sizeof buffer, MSG_TRUNC);
        const bool lost = size < 0 ? errno == ENOBUFS : static_cast<size_t>(size) > sizeof buffer;
        if (lost) {
            reader_.lost();
        } else if (size >= 0) {
            reader_.read({buffer, static_cast<size_t>(size)});
        } else if (errno != EINTR) {
            if (errno != EAGAIN) leave();
            break;
        }
    }
    return reader_.taken();
}

}  // namespace smtpfence
