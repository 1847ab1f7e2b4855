#include "rules/netlink_watch.hpp"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "rules/layout.hpp"
#include "rules/netlink_decode.hpp"

namespace smtpfence {

namespace {

constexpr uint16_t new_generation = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWGEN;
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

bool is_ours(const nlmsghdr& message) {
    // Every object names its table in the same attribute.
    const auto table = attribute(attributes(message), NFTA_TABLE_NAME);
    const auto& family = *reinterpret_cast<const nfgenmsg*>(NLMSG_DATA(&message));
    return family.nfgen_family == NFPROTO_INET && table && table->name() == table_name;
}

void touch_elements(Touched& touched, const nlmsghdr& message) {
    const std::string set = element_set(message);
    const auto exempt = parse_exempt_set_name(set);
    if (!exempt) {
        const auto shape = shape_of(set);
        touched.outline = touched.outline || !shape || !shape->dynamic;
        return;
    }
    std::vector<DecodedElement> elements;
    decode_elements(message, exempt_shape(*exempt).key, 0, elements);
    for (DecodedElement& element : elements) {
        element.key.length = exempt->length;
        touched.exemptions[set].push_back(element.key);
    }
}

void touch_set(Touched& touched, const nlmsghdr& message) {
    const auto name = attribute(attributes(message), NFTA_SET_NAME);
    if (name && parse_exempt_set_name(name->name())) touched.remade.insert(name->name());
    touched.outline = true;
}

void touch(Touched& touched, const nlmsghdr& message) {
    if (!is_ours(message)) return;
    switch (message.nlmsg_type & 0xff) {
        case NFT_MSG_NEWSETELEM:
        case NFT_MSG_DELSETELEM:
            touch_elements(touched, message);
            break;
        case NFT_MSG_NEWSET:
        case NFT_MSG_DELSET:
            touch_set(touched, message);
            break;
        default:
            touched.outline = true;
    }
}

ForeignCommit decode_end(const nlmsghdr& message) {
    ForeignCommit commit;
    const std::string_view told = attributes(message);
    if (const auto number = attribute(told, NFTA_GEN_ID)) commit.generation = number->u32();
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
    touched_ = {};
}

void NetlinkWatch::take(std::string_view datagram) {
    while (datagram.size() >= NLMSG_LENGTH(sizeof(nfgenmsg))) {
        const auto& message = *reinterpret_cast<const nlmsghdr*>(datagram.data());
        if (message.nlmsg_len < NLMSG_LENGTH(sizeof(nfgenmsg)) || message.nlmsg_len > datagram.size()) break;
        if (message.nlmsg_type == new_generation) {
            commits_.push_back(decode_end(message));
            commits_.back().touched = std::exchange(touched_, {});
        } else {
            touch(touched_, message);
        }
        datagram.remove_prefix(std::min(datagram.size(), size_t{NLMSG_ALIGN(message.nlmsg_len)}));
    }
}

std::vector<ForeignCommit> NetlinkWatch::commits() {
    alignas(nlmsghdr) char buffer[32 << 10];  // the kernel tells in pieces of at most a page
    while (descriptor_ >= 0) {
        const ssize_t size = recv(descriptor_, buffer, sizeof buffer, MSG_TRUNC);
        const bool lost = size < 0 ? errno == ENOBUFS : static_cast<size_t>(size) > sizeof buffer;
        if (lost) {
            touched_ = {};
            touched_.everything = true;
            commits_.emplace_back().touched = touched_;
        } else if (size >= 0) {
            take({buffer, static_cast<size_t>(size)});
        } else if (errno != EINTR) {
            if (errno != EAGAIN) leave();
            break;
        }
    }
    return std::exchange(commits_, {});
}

}  // namespace smtpfence
