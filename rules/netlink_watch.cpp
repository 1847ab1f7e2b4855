#include "rules/netlink_watch.hpp"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "rules/netlink_message.hpp"

namespace smtpfence {

namespace {

constexpr uint16_t new_generation = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWGEN;
constexpr int group = NFNLGRP_NFTABLES;

[[noreturn]] void fail(int code) {
    throw KernelError(code, "netlink socket",
                      std::string("other programs' changes to nftables can't be heard of: ") + std::strerror(code) +
                          "; run with CAP_NET_ADMIN");
}

/// Passes what ends a commit of another socket than `own_port`, and nothing else.
bool filter(int descriptor, uint32_t own_port) {
    // The filter reads numbers as if they were big-endian, and those of nlmsghdr aren't.
    sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(nlmsghdr, nlmsg_type)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(new_generation), 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(nlmsghdr, nlmsg_pid)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(own_port), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, ~0U),
    };
    const sock_fprog program{std::size(code), code};
    return setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
}

ForeignCommit decode(std::string_view datagram) {
    ForeignCommit commit;
    nlmsghdr header;
    if (datagram.size() < sizeof header) return commit;
    std::memcpy(&header, datagram.data(), sizeof header);
    if (header.nlmsg_type != new_generation || header.nlmsg_len > datagram.size()) return commit;
    const std::string_view told = attributes(*reinterpret_cast<const nlmsghdr*>(datagram.data()));
    if (const auto pid = attribute(told, NFTA_GEN_PROC_PID)) commit.pid = pid->u32();
    if (const auto name = attribute(told, NFTA_GEN_PROC_NAME)) commit.program = name->name();
    return commit;
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
    std::vector<ForeignCommit> commits;
    alignas(nlmsghdr) char buffer[1024];
    while (descriptor_ >= 0) {
        const ssize_t size = recv(descriptor_, buffer, sizeof buffer, 0);
        if (size >= 0) {
            commits.push_back(decode({buffer, static_cast<size_t>(size)}));
        } else if (errno == ENOBUFS) {
            commits.emplace_back();  // there were more of them
        } else if (errno != EINTR) {
            if (errno != EAGAIN) leave();
            break;
        }
    }
    return commits;
}

}  // namespace smtpfence
