#include "tests/flood/wire.hpp"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>
#include <utility>

namespace smtpfence {

namespace {

constexpr uint8_t first_hops = 32;

template <typename T>
void append(std::vector<uint8_t>& to, const T& value) {
    const auto* start = reinterpret_cast<const uint8_t*>(&value);
    to.insert(to.end(), start, start + sizeof value);
}

uint16_t header_checksum(const iphdr& header) {
    std::array<uint16_t, sizeof header / 2> words{};
    std::memcpy(words.data(), &header, sizeof header);
    uint32_t sum = 0;
    for (const uint16_t word : words) sum += word;
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<uint16_t>(~sum);
}

void address(int family, const std::string& text, void* to) {
    if (inet_pton(family, text.c_str(), to) != 1) throw std::runtime_error("no address: " + text);
}

/// Everything before a transport header of `size` bytes.
Frame headers(const Link& link, const Flow& flow, uint8_t protocol, size_t size) {
    const bool v6 = flow.from.find(':') != std::string::npos;
    Frame result;
    append(result.bytes, link.router);
    append(result.bytes, link.own);
    append(result.bytes, htons(v6 ? ETHERTYPE_IPV6 : ETHERTYPE_IP));
    if (v6) {
        ip6_hdr header{};
        header.ip6_flow = htonl(6u << 28);
        header.ip6_plen = htons(static_cast<uint16_t>(size));
        header.ip6_nxt = protocol;
        header.ip6_hops = first_hops;
        address(AF_INET6, flow.from, &header.ip6_src);
        address(AF_INET6, flow.to, &header.ip6_dst);
        append(result.bytes, header);
    } else {
        iphdr header{};
        header.version = 4;
        header.ihl = sizeof header / 4;
        header.tot_len = htons(static_cast<uint16_t>(sizeof header + size));
        header.ttl = first_hops;
        header.protocol = protocol;
        address(AF_INET, flow.from, &header.saddr);
        address(AF_INET, flow.to, &header.daddr);
        header.check = header_checksum(header);
        append(result.bytes, header);
    }
    result.transport_offset = result.bytes.size();
    return result;
}

}  // namespace

int checked(int result, const char* what) {
    if (result < 0) throw std::system_error(errno, std::generic_category(), what);
    return result;
}

ether_addr parse_mac(const std::string& text) {
    ether_addr address{};
    std::array<unsigned, ETH_ALEN> parts{};
    if (std::sscanf(text.c_str(), "%x:%x:%x:%x:%x:%x", &parts[0], &parts[1], &parts[2], &parts[3], &parts[4],
                    &parts[5]) != ETH_ALEN) {
        throw std::runtime_error("no MAC address: " + text);
    }
    for (size_t i = 0; i < parts.size(); ++i) address.ether_addr_octet[i] = static_cast<uint8_t>(parts[i]);
    return address;
}

void Frame::number(uint32_t n) {
    const uint32_t sequence = htonl(n);
    std::memcpy(bytes.data() + transport_offset + offsetof(tcphdr, seq), &sequence, sizeof sequence);
}

Frame tcp_frame(const Link& link, const Flow& flow, uint8_t flags) {
    Frame result = headers(link, flow, IPPROTO_TCP, sizeof(tcphdr));
    tcphdr tcp{};
    tcp.source = htons(flow.source_port);
    tcp.dest = htons(flow.port);
    tcp.doff = sizeof tcp / 4;
    tcp.th_flags = flags;
    append(result.bytes, tcp);
    return result;
}

Frame udp_frame(const Link& link, const Flow& flow) {
    Frame result = headers(link, flow, IPPROTO_UDP, sizeof(udphdr));
    udphdr udp{};
    udp.source = htons(flow.source_port);
    udp.dest = htons(flow.port);
    udp.len = htons(sizeof udp);
    append(result.bytes, udp);
    return result;
}

Wire::Wire(const std::string& interface) : socket_(checked(socket(AF_PACKET, SOCK_RAW, 0), "packet socket")) {
    sockaddr_ll where{};
    where.sll_family = AF_PACKET;
    where.sll_ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
    checked(bind(socket_, reinterpret_cast<const sockaddr*>(&where), sizeof where), "bind");
    const int yes = 1;
    checked(setsockopt(socket_, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof yes), "PACKET_QDISC_BYPASS");
}

Wire::Wire(Wire&& other) noexcept : socket_(std::exchange(other.socket_, -1)) {}

Wire::~Wire() {
    if (socket_ >= 0) close(socket_);
}

size_t Wire::send(std::vector<Frame>& frames, size_t first, size_t count) {
    std::array<mmsghdr, most> messages{};
    std::array<iovec, most> parts{};
    for (size_t i = 0; i < count; ++i) {
        std::vector<uint8_t>& bytes = frames[(first + i) % frames.size()].bytes;
        parts[i] = {bytes.data(), bytes.size()};
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    const int taken = sendmmsg(socket_, messages.data(), static_cast<unsigned>(count), 0);
    if (taken >= 0) return static_cast<size_t>(taken);
    if (errno == ENOBUFS || errno == EAGAIN || errno == EINTR) return 0;
    throw std::system_error(errno, std::generic_category(), "sendmmsg");
}

void stay_on_cpu(int cpu) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(static_cast<size_t>(cpu), &cpus);
    checked(sched_setaffinity(0, sizeof cpus, &cpus), "sched_setaffinity");
}

}  // namespace smtpfence
