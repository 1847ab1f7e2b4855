// On real namespaces; needs root.

#include "rules/scratch_network.hpp"

#include <net/if.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "rules/kernel.hpp"
#include "rules/packet.hpp"
#include "subscribers/scratch.hpp"

using namespace smtpfence;

namespace {

std::string this_network() { return std::filesystem::read_symlink("/proc/thread-self/ns/net"); }

Packet datagram(const Prefix& from, const Prefix& to, uint32_t number) {
    return {PacketKind::udp, from, to, 9, 9, number};
}

/// What the kernel itself sends from a new interface, sooner or later: ICMPv6, behind hop-by-hop options.
bool is_group_report(const std::string& packet) {
    return packet.size() > 6 && (packet[0] & 0xf0) == 0x60 && packet[6] == 0;
}

}  // namespace

TEST_CASE("scratch network: a packet leaves by the interface that its destination is routed to") {
    ScratchNetwork network({"bng0", "up0", "up1"});
    for (const auto& [line, server] : {std::pair{"100.64.3.7/32"_p, "198.51.100.25/32"_p},
                                       std::pair{"2001:db8:100::7/128"_p, "2001:db8:f::25/128"_p}}) {
        network.route(line, "bng0");
        for (const std::string out : {"up0", "up1", "up0"}) {
            network.route(server, out);
            const std::string packet = bytes(datagram(line, server, 1)), sentinel = bytes(datagram(line, server, 2));
            auto left = network.send(packet, sentinel, "bng0", out).at(out);
            std::erase_if(left, is_group_report);
            REQUIRE(left.size() == 2);
            CHECK(is_same(left.front(), packet));
        }
    }
}

TEST_CASE("scratch network: the thread and the machine's interfaces are as before") {
    const std::string before = this_network();
    const auto interfaces = [] {
        std::string names;
        struct if_nameindex* all = if_nameindex();
        for (auto* one = all; one->if_index != 0; ++one) names += std::string(one->if_name) + " ";
        if_freenameindex(all);
        return names;
    };
    const std::string names = interfaces();
    {
        ScratchNetwork network({"bng0", "up0"});
        CHECK(this_network() != before);
        CHECK(interfaces() == "lo bng0 up0 ");
    }
    CHECK(this_network() == before);
    CHECK(interfaces() == names);
}

TEST_CASE("scratch network: an interface that can't be made is named, and the thread is back") {
    const std::string before = this_network();
    CHECK_THROWS_WITH(ScratchNetwork({"lo"}), Catch::Contains("interface lo"));
    CHECK(this_network() == before);
}
