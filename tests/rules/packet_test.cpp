#include "rules/packet.hpp"

#include <catch2/catch.hpp>

#include "subscribers/scratch.hpp"

using namespace smtpfence;

namespace {

Packet packet(PacketKind kind, const char* from, const char* to) {
    return {kind, Prefix::parse(from), Prefix::parse(to), 40000, 25, 7};
}

std::string hex(std::string_view bytes) {
    std::string all;
    for (const char c : bytes) {
        constexpr const char* digits = "0123456789abcdef";
        all += digits[static_cast<uint8_t>(c) >> 4];
        all += digits[static_cast<uint8_t>(c) & 15];
    }
    return all;
}

}  // namespace

TEST_CASE("packet: an IPv4 SYN is what scapy makes of the same fields") {
    CHECK(hex(bytes(packet(PacketKind::syn, "100.64.3.7", "198.51.100.25"))) ==
          "45000028000700004006e93564400307c63364199c40001900000007000000005002faf086fd0000");
}

TEST_CASE("packet: an IPv6 first fragment that is cut holds no TCP header") {
    CHECK(hex(bytes(packet(PacketKind::cut_fragment, "2001:db8::7", "2001:db8:f::25"))) ==
          "6000000000102c4020010db800000000000000000000000720010db8000f00000000000000000025"
          "3c000001000000070600010400000000");
}

TEST_CASE("packet: a datagram's checksum covers what scapy covers") {
    CHECK(hex(bytes(packet(PacketKind::udp, "2001:db8::7", "2001:db8:f::25"))) ==
          "60000000000c114020010db800000000000000000000000720010db8000f00000000000000000025"
          "9c400019000c07c900000007");
}

TEST_CASE("packet: one that was routed is known again, another number is not") {
    Packet sent = packet(PacketKind::syn, "100.64.3.7", "198.51.100.25");
    std::string seen = bytes(sent);
    seen[8] = 63;                 // hops
    seen.replace(10, 2, "\1\2");  // header checksum
    CHECK(is_same(seen, bytes(sent)));
    ++sent.number;
    CHECK_FALSE(is_same(seen, bytes(sent)));
    CHECK_FALSE(is_same("", bytes(sent)));
}

TEST_CASE("packet: a reset is an answer only between the same ends") {
    const Packet sent = packet(PacketKind::syn, "2001:db8::7", "2001:db8:f::25");
    Packet answer{PacketKind::syn, sent.to, sent.from, 25, 40000, 1};
    std::string reset = bytes(answer);
    CHECK_FALSE(is_reset_of(reset, sent));
    reset[40 + 13] = 0x14;  // RST, ACK
    CHECK(is_reset_of(reset, sent));
    answer.destination_port = 40001;
    reset = bytes(answer);
    reset[40 + 13] = 0x14;
    CHECK_FALSE(is_reset_of(reset, sent));
    CHECK_FALSE(is_reset_of(std::string_view(reset).substr(0, 50), sent));
}
