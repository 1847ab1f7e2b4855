#include "rules/netlink_socket.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "rules/kernel.hpp"
#include "rules/netlink_message.hpp"

namespace smtpfence {

namespace {

constexpr int receive_limit = 64 << 20;          // replies of the largest transaction
constexpr size_t first_buffer_size = 256 << 10;  // the kernel dumps in pieces of 32 KiB, and answers in small ones
constexpr size_t answers_at_once = 64;
constexpr size_t send_margin = 64 << 10;  // of the send limit, for the kernel's own use

[[noreturn]] void fail(int code, const std::string& what) {
    throw KernelError(code, "netlink socket", "netlink socket: " + what + ": " + std::strerror(code));
}

Reply parse_error(const nlmsghdr& message) {
    nlmsgerr error;
    std::memcpy(&error, NLMSG_DATA(&message), sizeof error);
    Reply reply{error.msg.nlmsg_seq, -error.error, 0};
    if ((message.nlmsg_flags & NLM_F_ACK_TLVS) == 0) return reply;
    size_t skip = NLMSG_HDRLEN + sizeof error;
    if ((message.nlmsg_flags & NLM_F_CAPPED) == 0) skip += NLMSG_ALIGN(error.msg.nlmsg_len) - sizeof error.msg;
    if (skip > message.nlmsg_len) return reply;
    const std::string_view tail(reinterpret_cast<const char*>(&message) + skip, message.nlmsg_len - skip);
    if (const auto offset = attribute(tail, NLMSGERR_ATTR_OFFS);
        offset && offset->payload.size() == sizeof reply.offset) {
        std::memcpy(&reply.offset, offset->payload.data(), sizeof reply.offset);
    }
    return reply;
}

/// Calls `each` for the messages of a datagram.
template <typename Each>
void each_message(std::string_view datagram, Each each) {
    while (datagram.size() >= sizeof(nlmsghdr)) {
        const auto& message = *reinterpret_cast<const nlmsghdr*>(datagram.data());
        if (message.nlmsg_len < sizeof(nlmsghdr) || message.nlmsg_len > datagram.size()) return;
        each(message);
        datagram.remove_prefix(std::min(datagram.size(), size_t{NLMSG_ALIGN(message.nlmsg_len)}));
    }
}

uint32_t first_sequence(const std::string& messages) {
    nlmsghdr header;
    std::memcpy(&header, messages.data(), sizeof header);
    return header.nlmsg_seq;
}

std::chrono::milliseconds time_of(clockid_t clock) {
    timespec time{};
    clock_gettime(clock, &time);
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::seconds(time.tv_sec) +
                                                                 std::chrono::nanoseconds(time.tv_nsec));
}

}  // namespace

NetlinkSocket::NetlinkSocket() : clock_(time_of(CLOCK_REALTIME) - time_of(CLOCK_BOOTTIME)) {
    reserve(first_buffer_size);
    answer_size_ = first_buffer_size / answers_at_once;
    descriptor_ = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    if (descriptor_ < 0) {
        const int code = errno == EPROTONOSUPPORT ? EOPNOTSUPP : errno;
        throw KernelError(
            code, "nf_tables",
            std::string("nf_tables can't be reached: ") + std::strerror(errno) + "; load the kernel module nfnetlink");
    }
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    socklen_t size = sizeof address;
    const int on = 1;
    const bool ready = bind(descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
                       getsockname(descriptor_, reinterpret_cast<sockaddr*>(&address), &size) == 0 &&
                       setsockopt(descriptor_, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on) == 0 &&
                       setsockopt(descriptor_, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on) == 0;
    if (!ready) {
        const int code = errno;
        close(descriptor_);
        fail(code, "can't be set up");
    }
    port_ = address.nl_pid;
    // Needs CAP_NET_ADMIN, as everything here; without it the first request says so.
    setsockopt(descriptor_, SOL_SOCKET, SO_RCVBUFFORCE, &receive_limit, sizeof receive_limit);
}

NetlinkSocket::~NetlinkSocket() { close(descriptor_); }

int64_t NetlinkSocket::milliseconds_now() const { return (time_of(CLOCK_BOOTTIME) + clock_).count(); }

void NetlinkSocket::reserve(size_t size) {
    buffer_ = std::make_unique_for_overwrite<char[]>(size);
    buffer_size_ = size;
}

// While one dump isn't read to its end, the kernel refuses to begin another (EBUSY).
void NetlinkSocket::forget_unread() {
    bool lost = true;
    while (std::exchange(lost, false) || !receive(false, lost).empty()) {
    }
}

void NetlinkSocket::send(const std::string& bytes) {
    if (std::exchange(unread_, true)) forget_unread();
    if (bytes.size() + send_margin > send_limit_) {
        const auto limit = static_cast<int>(bytes.size() + 2 * send_margin);
        // In a container's user namespace only what net.core.wmem_max allows.
        if (setsockopt(descriptor_, SOL_SOCKET, SO_SNDBUFFORCE, &limit, sizeof limit) != 0)
            setsockopt(descriptor_, SOL_SOCKET, SO_SNDBUF, &limit, sizeof limit);
        send_limit_ = static_cast<size_t>(limit);
    }
    sockaddr_nl kernel{};
    kernel.nl_family = AF_NETLINK;
    ssize_t sent = -1;
    do {
        sent = sendto(descriptor_, bytes.data(), bytes.size(), 0, reinterpret_cast<sockaddr*>(&kernel), sizeof kernel);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0) return;
    if (errno == EMSGSIZE) {
        throw KernelError(EMSGSIZE, "transaction",
                          "a transaction of " + std::to_string(bytes.size()) +
                              " bytes is larger than this socket may send; run with CAP_NET_ADMIN in the host's user "
                              "namespace, or raise net.core.wmem_max");
    }
    fail(errno, "sending failed");
}

std::string_view NetlinkSocket::receive(bool wait, bool& lost) {
    while (true) {
        const ssize_t size = recv(descriptor_, buffer_.get(), buffer_size_, MSG_TRUNC | (wait ? 0 : MSG_DONTWAIT));
        if (size >= 0 && static_cast<size_t>(size) > buffer_size_) {
            reserve(static_cast<size_t>(size));  // this one is cut; the next of its kind is not
            lost = true;
            return {};
        }
        if (size >= 0) return {buffer_.get(), static_cast<size_t>(size)};
        if (errno == EINTR) continue;
        if (errno == ENOBUFS) {
            lost = true;
            if (wait) return {};
            continue;
        }
        if (!wait && errno == EAGAIN) return {};
        fail(errno, "receiving failed");
    }
}

std::span<const std::string_view> NetlinkSocket::receive_answers() {
    std::array<iovec, answers_at_once> places;
    std::array<mmsghdr, answers_at_once> headers{};
    for (size_t i = 0; i < answers_at_once; ++i) {
        places[i] = {buffer_.get() + i * answer_size_, answer_size_};
        headers[i].msg_hdr.msg_iov = &places[i];
        headers[i].msg_hdr.msg_iovlen = 1;
    }
    int count = -1;
    do {
        count = recvmmsg(descriptor_, headers.data(), answers_at_once, MSG_WAITFORONE | MSG_TRUNC, nullptr);
    } while (count < 0 && errno == EINTR);
    if (count < 0) fail(errno, errno == ENOBUFS ? "an answer was lost" : "receiving failed");
    answers_.clear();
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
        if (headers[i].msg_len > answer_size_) {
            answer_size_ = NLMSG_ALIGN(headers[i].msg_len);  // this one is cut; the next of its kind is not
            reserve(std::max(buffer_size_, answers_at_once * answer_size_));
            fail(ENOBUFS, "an answer was lost");
        }
        answers_.emplace_back(static_cast<const char*>(places[i].iov_base), headers[i].msg_len);
    }
    return answers_;
}

int NetlinkSocket::ask(const std::string& message, const Each& each) {
    const uint32_t sequence = first_sequence(message);
    send(message);
    std::optional<int> answer;
    while (!answer) {
        for (const std::string_view datagram : receive_answers()) {
            each_message(datagram, [&](const nlmsghdr& part) {
                if (part.nlmsg_seq != sequence) return;
                if (part.nlmsg_type == NLMSG_ERROR) {
                    answer = parse_error(part).error;
                } else {
                    each(part);
                }
            });
        }
    }
    unread_ = false;
    return *answer;
}

bool NetlinkSocket::dump(const std::string& message, const Each& each, int missing) {
    const uint32_t sequence = first_sequence(message);
    send(message);
    bool consistent = true, done = false;
    int code = 0;
    while (!done) {
        bool lost = false;
        const std::string_view datagram = receive(true, lost);
        if (lost) consistent = false;
        each_message(datagram, [&](const nlmsghdr& part) {
            if (part.nlmsg_seq != sequence) return;
            if ((part.nlmsg_flags & NLM_F_DUMP_INTR) != 0) consistent = false;
            if (part.nlmsg_type == NLMSG_ERROR) code = parse_error(part).error;
            done = done || part.nlmsg_type == NLMSG_ERROR || part.nlmsg_type == NLMSG_DONE;
            if (part.nlmsg_type >= NLMSG_MIN_TYPE) each(part);
        });
    }
    unread_ = false;
    if (code != 0 && code != missing) fail(code, "reading the table failed");
    return consistent;
}

std::vector<Reply> NetlinkSocket::batch(const std::string& messages) {
    send(messages);
    // The kernel has done all of it when sending returns: whatever it had to say is waiting.
    std::vector<Reply> replies;
    bool lost = false;
    for (std::string_view datagram = receive(false, lost); !datagram.empty(); datagram = receive(false, lost)) {
        each_message(datagram, [&](const nlmsghdr& part) {
            if (part.nlmsg_type == NLMSG_ERROR) replies.push_back(parse_error(part));
        });
    }
    unread_ = false;
    if (lost) {
        throw KernelError(
            ENOBUFS, "transaction",
            "the kernel's answers to a transaction were lost, so that its outcome is unknown; compare again");
    }
    return replies;
}

}  // namespace smtpfence
