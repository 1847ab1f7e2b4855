#pragma once
// The exemption sets of a router's table, asked by libmnl alone, without any of our code between.

#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace smtpfence {

class Sets {
public:
    Sets() : socket_(mnl_socket_open(NETLINK_NETFILTER), mnl_socket_close) {
        if (!socket_ || mnl_socket_bind(socket_.get(), 0, MNL_SOCKET_AUTOPID) < 0) fail("netlink socket");
    }

    /// Looks which sets of IPv4 addresses there are: a set that is nearly full is replaced by a larger one.
    void look() {
        names_.clear();
        Buffer buffer;
        nlmsghdr* const message = begin(buffer, NFT_MSG_GETSET, NLM_F_DUMP);
        mnl_attr_put_strz(message, NFTA_SET_TABLE, table);
        send(message);
        for (bool more = true; more;) {
            const size_t size = receive(buffer);
            more = mnl_cb_run(buffer.data(), size, 0, 0, &Sets::note, this) > MNL_CB_STOP;
        }
        if (names_.empty()) throw std::runtime_error("no set exempt4_32 in table inet smtpfence");
    }

    bool hold(in_addr address) {
        return std::any_of(names_.begin(), names_.end(), [&](const std::string& name) {
            return held(name, {&address, 1}) == 1;
        });
    }

    /// How many of the addresses stand in the set, up to the first that doesn't; at most 1,000 at once.
    size_t held(const std::string& name, std::span<const in_addr> addresses) {
        Buffer buffer;
        nlmsghdr* const message = begin(buffer, NFT_MSG_GETSETELEM, NLM_F_ACK);
        mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_TABLE, table);
        mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, name.c_str());
        nlattr* const elements = mnl_attr_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);
        for (const in_addr& address : addresses) {
            nlattr* const element = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
            nlattr* const key = mnl_attr_nest_start(message, NFTA_SET_ELEM_KEY);
            mnl_attr_put(message, NFTA_DATA_VALUE, sizeof address, &address);
            mnl_attr_nest_end(message, key);
            mnl_attr_nest_end(message, element);
        }
        mnl_attr_nest_end(message, elements);
        send(message);
        for (size_t found = 0;; ++found) {
            receive(buffer);
            const auto* const answer = reinterpret_cast<const nlmsghdr*>(buffer.data());
            if (answer->nlmsg_type != NLMSG_ERROR) continue;
            const auto* const error = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(answer));
            if (error->error == 0 || error->error == -ENOENT) return found;  // an element, or the set, is missing
            errno = -error->error;
            fail("element");
        }
    }

private:
    using Buffer = std::array<char, 65536>;
    static constexpr const char* table = "smtpfence";

    [[noreturn]] static void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

    nlmsghdr* begin(Buffer& buffer, int type, uint16_t flags) {
        nlmsghdr* const message = mnl_nlmsg_put_header(buffer.data());
        message->nlmsg_type = static_cast<uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | type);
        message->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
        message->nlmsg_seq = ++sequence_;
        auto* const family = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(message, sizeof(nfgenmsg)));
        family->nfgen_family = NFPROTO_INET;
        family->version = NFNETLINK_V0;
        return message;
    }

    void send(const nlmsghdr* message) {
        if (mnl_socket_sendto(socket_.get(), message, message->nlmsg_len) < 0) fail("netlink request");
    }

    size_t receive(Buffer& buffer) {
        const ssize_t size = mnl_socket_recvfrom(socket_.get(), buffer.data(), buffer.size());
        if (size < 0) fail("netlink answer");
        return static_cast<size_t>(size);
    }

    static int note(const nlmsghdr* message, void* self) {
        return mnl_attr_parse(message, sizeof(nfgenmsg), &Sets::note_name, self);
    }

    static int note_name(const nlattr* attribute, void* self) {
        if (mnl_attr_get_type(attribute) != NFTA_SET_NAME) return MNL_CB_OK;
        const std::string name = mnl_attr_get_str(attribute);
        if (name == "exempt4_32" || name.starts_with("exempt4_32_")) static_cast<Sets*>(self)->names_.push_back(name);
        return MNL_CB_OK;
    }

    std::unique_ptr<mnl_socket, int (*)(mnl_socket*)> socket_;
    uint32_t sequence_ = 0;
    std::vector<std::string> names_;
};

}  // namespace smtpfence
