#include "rules/tracked_session.hpp"

#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "rules/kernel.hpp"
#include "rules/network.hpp"
#include "rules/question.hpp"

using namespace smtpfence;

namespace {

struct End {
    std::string address;
    uint16_t port;
};

void put_tuple(nlmsghdr* message, uint16_t type, const End& source, const End& destination, uint8_t protocol) {
    const bool v4 = source.address.find(':') == std::string::npos;
    nlattr* tuple = mnl_attr_nest_start(message, type);
    nlattr* ip = mnl_attr_nest_start(message, CTA_TUPLE_IP);
    const auto put = [&](uint16_t v4_type, uint16_t v6_type, const std::string& text) {
        const Prefix address = Prefix::parse(text);
        mnl_attr_put(message, v4 ? v4_type : v6_type, v4 ? 4 : 16, address.address().data());
    };
    put(CTA_IP_V4_SRC, CTA_IP_V6_SRC, source.address);
    put(CTA_IP_V4_DST, CTA_IP_V6_DST, destination.address);
    mnl_attr_nest_end(message, ip);
    nlattr* ports = mnl_attr_nest_start(message, CTA_TUPLE_PROTO);
    mnl_attr_put_u8(message, CTA_PROTO_NUM, protocol);
    mnl_attr_put_u16(message, CTA_PROTO_SRC_PORT, htons(source.port));
    mnl_attr_put_u16(message, CTA_PROTO_DST_PORT, htons(destination.port));
    mnl_attr_nest_end(message, ports);
    mnl_attr_nest_end(message, tuple);
}

/// Makes connection tracking remember a session, whose other direction goes from `server` to `outside`.
void track(const End& source, const End& destination, const End& server, const End& outside,
           uint8_t protocol = IPPROTO_TCP) {
    const auto family = static_cast<uint8_t>(source.address.find(':') == std::string::npos ? AF_INET : AF_INET6);
    Question question =
        netfilter_question(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, family);
    nlmsghdr* message = question.message();
    put_tuple(message, CTA_TUPLE_ORIG, source, destination, protocol);
    put_tuple(message, CTA_TUPLE_REPLY, server, outside, protocol);
    mnl_attr_put_u32(message, CTA_TIMEOUT, htonl(600));
    mnl_attr_put_u32(message, CTA_STATUS, htonl(IPS_CONFIRMED | IPS_ASSURED | IPS_SEEN_REPLY));
    REQUIRE(Questioner().ask(NETLINK_NETFILTER, question, [](const nlmsghdr&) {}) == 0);
}

void track(const End& source, const End& destination, uint8_t protocol = IPPROTO_TCP) {
    track(source, destination, destination, source, protocol);
}

/// Source ports of what is tracked in this network namespace, sorted.
std::vector<int> tracked() {
    std::vector<int> ports;
    std::ifstream file("/proc/thread-self/net/nf_conntrack");
    REQUIRE(file);
    for (std::string line; std::getline(file, line);) {
        const size_t at = line.find("sport=");
        if (at != std::string::npos) ports.push_back(std::stoi(line.substr(at + 6)));
    }
    std::sort(ports.begin(), ports.end());
    return ports;
}

/// Lines of 100.64.0.0/10 and 2001:db8:100::/40, and their own relay.
bool fenced(const Prefix& line, const Prefix& server) {
    const bool inside =
        Prefix::parse("100.64.0.0/10").contains(line) || Prefix::parse("2001:db8:100::/40").contains(line);
    return inside && server != Prefix::parse("203.0.113.10") && server != Prefix::parse("2001:db8:25::10");
}

}  // namespace

TEST_CASE("tracked_session: fenced sessions with port 25 at either end are forgotten, and no others") {
    const FreshNetwork network;
    track({"100.64.3.7", 1001}, {"198.51.100.25", 25});
    track({"198.51.100.25", 25}, {"100.64.3.7", 1002});
    track({"2001:db8:100:300::7", 1003}, {"2001:db8:f::25", 25});
    track({"100.64.3.7", 2001}, {"203.0.113.10", 25});
    track({"2001:db8:100:300::7", 2002}, {"2001:db8:25::10", 25});
    track({"100.64.3.7", 2003}, {"198.51.100.25", 587});
    track({"192.0.2.7", 2004}, {"198.51.100.25", 25});
    track({"198.51.100.25", 2005}, {"100.64.3.7", 25});
    track({"100.64.3.7", 2006}, {"198.51.100.25", 25}, IPPROTO_UDP);
    REQUIRE(tracked().size() == 9);
    Questioner questioner;
    CHECK(forget_sessions(questioner, fenced) == 3);
    CHECK(tracked() == std::vector<int>{2001, 2002, 2003, 2004, 2005, 2006});
    CHECK(forget_sessions(questioner, fenced) == 0);
}

TEST_CASE("tracked_session: behind address translation the inside addresses count") {
    const FreshNetwork network;
    track({"100.64.3.7", 1001}, {"198.51.100.25", 25}, {"198.51.100.25", 25}, {"192.0.2.1", 61001});
    track({"198.51.100.25", 25}, {"192.0.2.1", 7000}, {"100.64.3.7", 7000}, {"198.51.100.25", 25});
    track({"100.64.3.7", 2001}, {"198.51.100.99", 25}, {"203.0.113.10", 25}, {"192.0.2.1", 61002});
    Questioner questioner;
    CHECK(forget_sessions(questioner, fenced) == 2);
    CHECK(tracked() == std::vector<int>{2001});
}
