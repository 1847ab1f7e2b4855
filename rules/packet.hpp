#pragma once
// IP packets as bytes, as hosts behind a line and mail servers send them, and what becomes of them on a router. Not a
// parser of foreign traffic: it knows again what it made itself.

#include <cstdint>
#include <string>
#include <string_view>

#include "subscribers/prefix.hpp"

namespace smtpfence {

enum class PacketKind : uint8_t {
    syn,
    syn_ack,
    data,             ///< in the middle of a session
    extension,        ///< a SYN behind a destination options header; IPv6 only
    cut_fragment,     ///< a first fragment that is cut: IPv4 behind the ports, IPv6 before the TCP header (RFC 7112)
    second_fragment,  ///< at offset 1, over the TCP flags (RFC 3128); IPv4 only
    later_fragment,   ///< with what looks like ports where a first one has them
    udp,
};
/// "syn", "cut first fragment", ...
const char* word(PacketKind);
/// Whether packets of the kind exist in the family.
bool exists(PacketKind, Family);

struct Packet {
    PacketKind kind{};
    Prefix from, to;  ///< addresses of one family
    uint16_t source_port = 0, destination_port = 0;
    uint32_t number = 0;  ///< tells it from all others
};

/// From the IP header on, with right checksums and 64 hops to go.
std::string bytes(const Packet&);

/// Whether `seen`, which left a router, is `sent` with fewer hops to go.
bool is_same(std::string_view seen, std::string_view sent);
/// Whether `seen` is a TCP reset that answers the packet.
bool is_reset_of(std::string_view seen, const Packet&);

}  // namespace smtpfence
