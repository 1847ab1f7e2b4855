#include "rules/question.hpp"

#include <linux/netfilter/nfnetlink.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "rules/netlink_message.hpp"

namespace smtpfence {

namespace {

constexpr size_t part_size = 64 << 10;  // the kernel dumps in pieces of at most 32 KiB

using Each = std::function<void(const nlmsghdr&)>;

int deliver(const nlmsghdr* message, void* each) {
    (*static_cast<const Each*>(each))(*message);
    return MNL_CB_OK;
}

}  // namespace

Question netfilter_question(uint8_t subsystem, uint8_t type, uint16_t flags, uint8_t family) {
    nfgenmsg header{};
    header.nfgen_family = family;
    header.version = NFNETLINK_V0;
    return {static_cast<uint16_t>(subsystem << 8 | type), flags, header};
}

void Questioner::Close::operator()(mnl_socket* socket) const { mnl_socket_close(socket); }

int Questioner::ask(int bus, Question& question, const Each& each) {
    // Out of the map until all is answered: after a failure, what is still on its way goes with the socket.
    Socket socket = std::move(sockets_[bus]);
    if (!socket) {
        socket.reset(mnl_socket_open2(bus, SOCK_CLOEXEC));
        if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0) return errno;
    }
    nlmsghdr* message = question.message();
    message->nlmsg_seq = ++sequence_;
    if (mnl_socket_sendto(socket.get(), message, message->nlmsg_len) < 0) return errno;
    std::vector<char> part(part_size);
    for (int more = MNL_CB_OK; more > MNL_CB_STOP;) {
        const ssize_t size = mnl_socket_recvfrom(socket.get(), part.data(), part.size());
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) return errno;
        more = mnl_cb_run(part.data(), static_cast<size_t>(size), message->nlmsg_seq,
                          mnl_socket_get_portid(socket.get()), deliver, const_cast<Each*>(&each));
        if (more < 0) return errno;
    }
    sockets_[bus] = std::move(socket);
    return 0;
}

std::string_view behind(const nlmsghdr& message, size_t header_size) {
    const size_t before = NLMSG_HDRLEN + NLMSG_ALIGN(header_size);
    if (message.nlmsg_len < before) return {};
    return std::string_view(reinterpret_cast<const char*>(&message) + before, message.nlmsg_len - before);
}

std::string_view in(std::string_view attributes, uint16_t type) {
    const auto found = attribute(attributes, type);
    return found ? found->payload : std::string_view();
}

std::string text(std::string_view payload) { return std::string(payload.substr(0, payload.find('\0'))); }

uint32_t number(std::string_view payload) {
    if (payload.size() == 1) return static_cast<uint8_t>(payload[0]);
    uint32_t value = 0;
    if (payload.size() >= sizeof value) std::memcpy(&value, payload.data(), sizeof value);
    return value;
}

}  // namespace smtpfence
