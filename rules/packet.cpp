#include "rules/packet.hpp"

#include <netinet/in.h>

#include "rules/netlink_message.hpp"

namespace smtpfence {

namespace {

constexpr uint8_t hops = 64;
constexpr uint8_t syn = 0x02, reset = 0x04, push = 0x08, ack = 0x10;
constexpr uint16_t more_fragments4 = 0x2000;
constexpr size_t header4 = 20, header6 = 40, tcp_header = 20, ports_size = 8;
constexpr uint16_t later_offset = 180;  // in units of 8 bytes

std::string address_bytes(const Prefix& address) {
    const auto* first = reinterpret_cast<const char*>(address.address().data());
    return {first, address.family() == Family::v4 ? size_t{4} : size_t{16}};
}

std::string byte(unsigned value) { return std::string(1, static_cast<char>(value)); }

/// RFC 1071.
uint16_t checksum(std::string_view data) {
    uint32_t sum = 0;
    for (size_t i = 0; i < data.size(); ++i)
        sum += static_cast<uint32_t>(static_cast<uint8_t>(data[i])) << (i % 2 == 0 ? 8 : 0);
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<uint16_t>(~sum);
}

/// A header and data with its checksum at `offset`, over the pseudo-header of RFC 9293 and RFC 8200.
std::string checked(const Packet& packet, uint8_t protocol, std::string upper, size_t offset) {
    const std::string pseudo = address_bytes(packet.from) + address_bytes(packet.to) +
                               big_endian(static_cast<uint32_t>(upper.size())) + big_endian(uint32_t{protocol});
    return upper.replace(offset, 2, big_endian(checksum(pseudo + upper)));
}

std::string ports(const Packet& packet) { return big_endian(packet.source_port) + big_endian(packet.destination_port); }

std::string tcp(const Packet& packet, uint8_t flags, const std::string& data = {}) {
    return checked(packet, IPPROTO_TCP,
                   ports(packet) + big_endian(packet.number) + big_endian(uint32_t{0}) + byte(0x50) + byte(flags) +
                       big_endian(uint16_t{64240}) + big_endian(uint32_t{0}) + data,
                   16);
}

std::string udp(const Packet& packet) {
    const std::string data = big_endian(packet.number);
    const auto size = static_cast<uint16_t>(8 + data.size());
    return checked(packet, IPPROTO_UDP, ports(packet) + big_endian(size) + big_endian(uint16_t{0}) + data, 6);
}

/// What a later fragment brings; its first bytes look like ports.
std::string fragment_data(const Packet& packet) {
    return ports(packet) + big_endian(packet.number) + std::string(8, '\0');
}

/// The upper header of the kinds that are no fragments.
std::string segment(const Packet& packet) {
    switch (packet.kind) {
        case PacketKind::syn_ack:
            return tcp(packet, syn | ack);
        case PacketKind::data:
            return tcp(packet, push | ack, "EHLO line\r\n");
        case PacketKind::udp:
            return udp(packet);
        default:
            return tcp(packet, syn);
    }
}

std::string options6(uint8_t next) { return byte(next) + byte(0) + byte(1) + byte(4) + std::string(4, '\0'); }

std::string fragment6(const Packet& packet, uint8_t next, uint16_t offset, bool more) {
    const auto field = static_cast<uint16_t>(offset << 3 | (more ? 1 : 0));
    return byte(next) + byte(0) + big_endian(field) + big_endian(packet.number);
}

std::string ip4(const Packet& packet, const std::string& payload, uint16_t fragment) {
    const uint8_t protocol = packet.kind == PacketKind::udp ? IPPROTO_UDP : IPPROTO_TCP;
    std::string header = byte(0x45) + byte(0) + big_endian(static_cast<uint16_t>(header4 + payload.size())) +
                         big_endian(static_cast<uint16_t>(packet.number)) + big_endian(fragment) + byte(hops) +
                         byte(protocol) + big_endian(uint16_t{0}) + address_bytes(packet.from) +
                         address_bytes(packet.to);
    return header.replace(10, 2, big_endian(checksum(header))) + payload;
}

std::string ip6(const Packet& packet, uint8_t next, const std::string& payload) {
    return big_endian(uint32_t{6} << 28) + big_endian(static_cast<uint16_t>(payload.size())) + byte(next) + byte(hops) +
           address_bytes(packet.from) + address_bytes(packet.to) + payload;
}

std::string bytes4(const Packet& packet) {
    switch (packet.kind) {
        case PacketKind::cut_fragment:
            return ip4(packet, tcp(packet, syn).substr(0, ports_size), more_fragments4);
        case PacketKind::second_fragment:
            return ip4(packet, fragment_data(packet), 1);
        case PacketKind::later_fragment:
            return ip4(packet, fragment_data(packet), later_offset | more_fragments4);
        default:
            return ip4(packet, segment(packet), 0);
    }
}

std::string bytes6(const Packet& packet) {
    switch (packet.kind) {
        case PacketKind::extension:
            return ip6(packet, IPPROTO_DSTOPTS, options6(IPPROTO_TCP) + segment(packet));
        case PacketKind::cut_fragment:
            return ip6(packet, IPPROTO_FRAGMENT, fragment6(packet, IPPROTO_DSTOPTS, 0, true) + options6(IPPROTO_TCP));
        case PacketKind::later_fragment:
            return ip6(packet, IPPROTO_FRAGMENT,
                       fragment6(packet, IPPROTO_TCP, later_offset, true) + fragment_data(packet));
        default:
            return ip6(packet, packet.kind == PacketKind::udp ? IPPROTO_UDP : IPPROTO_TCP, segment(packet));
    }
}

/// What a router leaves alone: everything behind hops and header checksum.
std::string_view lasting(std::string_view packet) {
    const bool v6 = !packet.empty() && static_cast<uint8_t>(packet[0]) >> 4 == 6;
    return packet.substr(std::min<size_t>(packet.size(), v6 ? 8 : 12));
}

}  // namespace

const char* word(PacketKind kind) {
    constexpr const char* words[] = {
        "syn", "syn-ack", "data", "extension header", "cut first fragment", "fragment at offset 1", "later fragment",
        "udp"};
    return words[static_cast<size_t>(kind)];
}

bool exists(PacketKind kind, Family family) {
    if (kind == PacketKind::extension) return family == Family::v6;
    return kind != PacketKind::second_fragment || family == Family::v4;
}

std::string bytes(const Packet& packet) { return packet.from.family() == Family::v4 ? bytes4(packet) : bytes6(packet); }

bool is_same(std::string_view seen, std::string_view sent) { return lasting(seen) == lasting(sent); }

bool is_reset_of(std::string_view seen, const Packet& packet) {
    const bool v4 = packet.from.family() == Family::v4;
    const size_t header = v4 ? header4 : header6;
    if (seen.size() < header + tcp_header || static_cast<uint8_t>(seen[0]) >> 4 != (v4 ? 4 : 6)) return false;
    if (static_cast<uint8_t>(seen[v4 ? 9 : 6]) != IPPROTO_TCP) return false;
    const std::string answer = address_bytes(packet.to) + address_bytes(packet.from) +
                               big_endian(packet.destination_port) + big_endian(packet.source_port);
    return seen.substr(v4 ? 12 : 8, answer.size()) == answer && (static_cast<uint8_t>(seen[header + 13]) & reset) != 0;
}

}  // namespace smtpfence
