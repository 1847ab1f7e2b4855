#include "rules/tracked_session.hpp"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>

#include <cerrno>
#include <optional>
#include <vector>

#include "rules/kernel.hpp"
#include "rules/question.hpp"

namespace smtpfence {

namespace {

constexpr uint16_t mail_port = 25;

/// Bits of CTA_FILTER_ORIG_FLAGS (Linux 5.8, net/netfilter/nf_internals.h): which parts of the tuple must be equal.
constexpr uint32_t equal_protocol = 1 << 3, equal_source_port = 1 << 4, equal_destination_port = 1 << 5;

/// One direction of a session.
struct Tuple {
    Prefix source, destination;
    uint16_t source_port = 0, destination_port = 0;
};

std::optional<Prefix> address(std::string_view payload) {
    Prefix::Address bytes{};
    if (payload.size() != 4 && payload.size() != bytes.size()) return std::nullopt;
    std::copy(payload.begin(), payload.end(), bytes.begin());
    const Family family = payload.size() == 4 ? Family::v4 : Family::v6;
    return Prefix(family, bytes, bits(family));
}

uint16_t port(std::string_view payload) {
    uint16_t value_be = 0;
    if (payload.size() == sizeof value_be) std::memcpy(&value_be, payload.data(), sizeof value_be);
    return ntohs(value_be);
}

/// nullopt: not tcp.
std::optional<Tuple> tuple(std::string_view bytes, uint8_t family) {
    const bool v4 = family == AF_INET;
    const std::string_view ip = in(bytes, CTA_TUPLE_IP), protocol = in(bytes, CTA_TUPLE_PROTO);
    const auto source = address(in(ip, v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC));
    const auto destination = address(in(ip, v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST));
    if (!source || !destination || number(in(protocol, CTA_PROTO_NUM)) != IPPROTO_TCP) return std::nullopt;
    return Tuple{*source, *destination, port(in(protocol, CTA_PROTO_SRC_PORT)), port(in(protocol, CTA_PROTO_DST_PORT))};
}

/// A session as the kernel told it; the attributes name it again.
struct Tracked {
    uint8_t family = AF_UNSPEC;
    std::string original, zone, id;
    Tuple there, back;

    /// The source of the one direction and that of the other are the two ends behind all translation.
    bool fenced_by(const Fenced& fenced) const {
        return (there.destination_port == mail_port && fenced(there.source, back.source)) ||
               (there.source_port == mail_port && fenced(back.source, there.source));
    }
};

std::optional<Tracked> tracked_in(const nlmsghdr& message, uint8_t family) {
    const std::string_view all = behind(message, sizeof(nfgenmsg));
    const std::string_view original = in(all, CTA_TUPLE_ORIG);
    const auto there = tuple(original, family), back = tuple(in(all, CTA_TUPLE_REPLY), family);
    if (!there || !back) return std::nullopt;
    return Tracked{family, std::string(original), std::string(in(all, CTA_ZONE)), std::string(in(all, CTA_ID)), *there,
                   *back};
}

void put(nlmsghdr* message, uint16_t type, std::string_view payload) {
    mnl_attr_put(message, type, payload.size(), payload.data());
}

/// Only those with port 25 at the end that `equal_port` names.
Question sessions_question(uint8_t family, uint32_t equal_port) {
    Question question = netfilter_question(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET, NLM_F_DUMP, family);
    nlmsghdr* message = question.message();
    nlattr* original = mnl_attr_nest_start(message, CTA_TUPLE_ORIG);
    nlattr* protocol = mnl_attr_nest_start(message, CTA_TUPLE_PROTO);
    mnl_attr_put_u8(message, CTA_PROTO_NUM, IPPROTO_TCP);
    mnl_attr_put_u16(message, equal_port == equal_source_port ? CTA_PROTO_SRC_PORT : CTA_PROTO_DST_PORT,
                     htons(mail_port));
    mnl_attr_nest_end(message, protocol);
    mnl_attr_nest_end(message, original);
    nlattr* filter = mnl_attr_nest_start(message, CTA_FILTER);
    mnl_attr_put_u32(message, CTA_FILTER_ORIG_FLAGS, equal_protocol | equal_port);
    mnl_attr_put_u32(message, CTA_FILTER_REPLY_FLAGS, 0);
    mnl_attr_nest_end(message, filter);
    return question;
}

[[noreturn]] void session_error(int code, const std::string& what) {
    throw KernelError(
        code, "tracked sessions",
        what + ": " + std::strerror(code) + "; until it succeeds, sessions in a flowtable may outlive their right");
}

/// False: it ended by itself meanwhile.
bool forget(Questioner& questioner, const Tracked& session) {
    Question question = netfilter_question(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE, NLM_F_ACK, session.family);
    put(question.message(), CTA_TUPLE_ORIG | NLA_F_NESTED, session.original);
    if (!session.zone.empty()) put(question.message(), CTA_ZONE, session.zone);
    put(question.message(), CTA_ID, session.id);
    const int code = questioner.ask(NETLINK_NETFILTER, question, [](const nlmsghdr&) {});
    if (code != 0 && code != ENOENT) session_error(code, "a tracked session could not be forgotten");
    return code == 0;
}

std::vector<Tracked> fenced_sessions(Questioner& questioner, uint8_t family, uint32_t equal_port,
                                     const Fenced& fenced) {
    std::vector<Tracked> sessions;
    Question question = sessions_question(family, equal_port);
    const int code = questioner.ask(NETLINK_NETFILTER, question, [&](const nlmsghdr& message) {
        const auto session = tracked_in(message, family);
        if (session && session->fenced_by(fenced)) sessions.push_back(*session);
    });
    // EINVAL: connection tracking is not there.
    if (code != 0 && code != EINVAL) session_error(code, "tracked sessions could not be read");
    return sessions;
}

}  // namespace

size_t forget_sessions(Questioner& questioner, const Fenced& fenced) {
    size_t forgotten = 0;
    for (const uint8_t family : std::initializer_list<uint8_t>{AF_INET, AF_INET6}) {
        for (const uint32_t equal_port : {equal_destination_port, equal_source_port}) {
            for (const Tracked& session : fenced_sessions(questioner, family, equal_port, fenced)) {
                if (forget(questioner, session)) ++forgotten;
            }
        }
    }
    return forgotten;
}

}  // namespace smtpfence
