#pragma once
// A question to the kernel that a dump answers, over a socket of its own: what the long-lived conversation about our
// table (netlink_socket.hpp) is not for. And the attributes of the answers, in the host's byte order.
//
//   Questioner questioner;
//   questioner.ask(NETLINK_ROUTE, question, [](const nlmsghdr& part) { ... });

#include <libmnl/libmnl.h>

#include <array>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace smtpfence {

/// A netlink message under construction, of at most 1 KiB; put attributes with mnl_attr_put(question.message(), ...).
class Question {
public:
    /// `header` follows the netlink header: ifinfomsg, tcmsg, nfgenmsg, ...
    template <typename Header>
    Question(uint16_t type, uint16_t flags, const Header& header) {
        nlmsghdr* message = mnl_nlmsg_put_header(bytes_.data());
        message->nlmsg_type = type;
        message->nlmsg_flags = static_cast<uint16_t>(flags | NLM_F_REQUEST);
        std::memcpy(mnl_nlmsg_put_extra_header(message, sizeof header), &header, sizeof header);
    }
    nlmsghdr* message() { return reinterpret_cast<nlmsghdr*>(bytes_.data()); }

private:
    alignas(nlmsghdr) std::array<char, 1024> bytes_{};
};

/// A message of a netfilter subsystem (NFNL_SUBSYS_…, linux/netfilter/nfnetlink.h).
Question netfilter_question(uint8_t subsystem, uint8_t type, uint16_t flags, uint8_t family);

/// Asks over sockets that stay open: the close of one that knows netfilter waits, after elements were deleted, until
/// the kernel has freed them (8 to 13 ms), for nf_tables looks then whether it was a table's owner.
class Questioner {
public:
    /// Sends the question over `bus` (NETLINK_ROUTE, NETLINK_NETFILTER) and calls `each` for the parts of the answer.
    /// Returns errno, 0 when it was answered; EINTR: something changed meanwhile, so that the parts may not fit each
    /// other.
    int ask(int bus, Question&, const std::function<void(const nlmsghdr&)>& each);

private:
    struct Close {
        void operator()(mnl_socket*) const;
    };
    using Socket = std::unique_ptr<mnl_socket, Close>;

    std::map<int, Socket> sockets_;  ///< by bus
    uint32_t sequence_ = 0;
};

/// The attributes of a message behind its header.
std::string_view behind(const nlmsghdr&, size_t header_size);
/// What the first attribute of `type` holds, maybe attributes again; empty when it is missing.
std::string_view in(std::string_view attributes, uint16_t type);
/// Up to its first zero.
std::string text(std::string_view payload);
/// A number of 1 or 4 bytes in the host's order; 0 when it is missing.
uint32_t number(std::string_view payload);

}  // namespace smtpfence
