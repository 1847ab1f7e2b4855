"""Frames made to slip by: fragments, headers out of sight, extension headers, data in the first segment, other tables.

A fenced line here drops; every frame is also sent from an exempt line and must pass there, so that a drop is known to
be the fence's.

Where each way around the fence is tried, for both families and both directions unless it has only one:

  replies of a server whose customer sends elsewhere        verdicts_test: from_port_25_towards_a_line
  a source outside the pools, or somebody else's            sources_test; surroundings_test: what can't be enforced
  an earlier accept of what is established                  here: ConnectionTracking
  a session that is open when its right ends                sessions_test: is_cut; with flow offload: flowtable_test
  flow offload, bridges, XDP, redirections                  surroundings_test (and that they are ways past the fence)
  a block of SYNs only, asymmetric routes                   verdicts_test: every_segment
  data in the first segment                                 here: BothFamilies
  IPv4 fragments                                            here: FragmentsV4; reassembled ones: ConnectionTracking
  IPv6 fragments, ports in the second one                   here: FragmentsV6; reassembled ones: ConnectionTracking
  IPv6 extension headers                                    here: ExtensionHeaders
  VLAN, QinQ, MPLS, bonds, VRFs and tunnels                 encapsulation_test; surroundings_test: tagged frames
  addresses translated on the router                        here: AddressTranslation
  several routers                                           tests/controller/waiting_test.cpp
  an address that changes hands                             sessions_test: handed_to_another_customer
  a wrong or missing relay                                  verdicts_test: relay; command/subscribers_test: Fenced
  rules removed by another program                          service_test: Neighbours
  a table that is removed and made anew                     service_test: Life; tests/rules/difference_test.cpp
"""

import ipaddress
import itertools
import unittest

from scapy.layers.inet import IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, PadN
from scapy.layers.ipsec import AH
from scapy.packet import Raw
from scapy.utils import checksum

from network import FAMILIES, V4, V6, Session, parsed
from packet_case import PacketCase, numbers, segment, tcp

# What the bytes of a later fragment may look like, read as ports: neither, destination, source, both 25. (The kernel's
# short loads do read them: nftables' quick path for one, two and four bytes doesn't look at the fragment offset.)
STARTS = (bytes(8), b"\0\0\0\x19" + bytes(4), b"\0\x19\0\0" + bytes(4), b"\0\x19\0\x19" + bytes(4))

TCP_NUMBER, UDP_NUMBER, DESTINATION_OPTIONS = 6, 17, 60


def stamped(data):
    """Bytes that end like no others."""
    return data + next(numbers).to_bytes(8, "big")


def raw_segment(sport, dport, payload=24):
    return bytes(TCP(sport=sport, dport=dport, seq=next(numbers))) + stamped(bytes(payload))


def fragment4(source, destination, data, offset, more, number=TCP_NUMBER):
    """An IPv4 fragment; the offset counts units of 8 bytes."""
    return IP(src=source, dst=destination, proto=number, id=next(numbers) & 0xffff, frag=offset,
              flags="MF" if more else 0) / Raw(data)


def fragment6(a, source, destination, data, offset, more, number=TCP_NUMBER):
    return a.packet(source, destination) / IPv6ExtHdrFragment(nh=number, offset=offset, m=int(more),
                                                              id=next(numbers)) / Raw(data)


def with_source(packet, address):
    """The packet from another address; only the IP header is made to fit."""
    if len(address) == 16:
        return packet[:8] + address + packet[24:]
    header = packet[:10] + b"\0\0" + address + packet[16:20]
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + packet[20:]


def options(size, then):
    """A destination options header of `size` bytes in front of the header with number `then`."""
    padding = [bytes([1, min(left, 128) - 2]) + bytes(min(left, 128) - 2) for left in range(size - 2, 0, -128)]
    return bytes([then, size // 8 - 1]) + b"".join(padding)


class Evasions(PacketCase):
    def fenced_only(self, make):
        """make(a, source, destination, sport, dport) is dropped on fenced lines, both ways, and passes elsewhere."""
        for a in self.families:
            for line in (a.drop, a.expert, a.passing, a.observe):
                check = self.dropped if line == a.drop else self.passes
                check(make(a, line, a.server, 40000, 25))
                check(make(a, a.server, line, 25, 40000), "internet", "home")
            self.passes(make(a, a.drop, a.relay, 40000, 25))
            self.passes(make(a, a.relay, a.drop, 25, 40000), "internet", "home")

    def untouched(self, make):
        """The same, and it passes everywhere."""
        for a in self.families:
            for line in (a.drop, a.reject, a.expert):
                self.passes(make(a, line, a.server, 40000, 25))
                self.passes(make(a, a.server, line, 25, 40000), "internet", "home")


class BothFamilies(Evasions):
    families = FAMILIES

    def test_data_in_the_first_segment_is_dropped(self):
        def make(a, source, destination, sport, dport):
            return a.packet(source, destination) / TCP(sport=sport, dport=dport, flags="S", seq=next(numbers),
                                                       options=[(34, b"12345678")]) / Raw(b"EHLO line\r\n")
        self.fenced_only(make)

    def test_a_nonsense_header_length_is_dropped(self):
        def make(a, source, destination, sport, dport):
            return a.packet(source, destination) / TCP(sport=sport, dport=dport, dataofs=0, seq=next(numbers))
        self.fenced_only(make)

    def test_a_segment_cut_before_its_ports_is_dropped(self):
        for length in range(4):
            def make(a, source, destination, sport, dport, length=length):
                name = "proto" if a.family == 4 else "nh"
                return a.packet(source, destination, **{name: TCP_NUMBER}) / Raw(
                    bytes(TCP(sport=sport, dport=dport))[:length])
            self.fenced_only(make)

    def test_a_segment_cut_behind_its_ports_is_dropped(self):
        def make(a, source, destination, sport, dport):
            name = "proto" if a.family == 4 else "nh"
            data = bytes(TCP(sport=sport, dport=dport, seq=next(numbers)))[:8]
            return a.packet(source, destination, **{name: TCP_NUMBER}) / Raw(data)
        self.fenced_only(make)


class FragmentsV4(Evasions):
    families = (V4,)

    def test_a_first_fragment_with_its_ports_is_dropped(self):
        for length in (8, 16, 24, 40):
            def make(a, source, destination, sport, dport, length=length):
                return fragment4(source, destination, raw_segment(sport, dport)[:length], 0, True)
            self.fenced_only(make)

    def test_a_first_fragment_cut_before_its_ports_is_dropped(self):
        for length in (1, 2, 3, 4, 7):
            def make(a, source, destination, sport, dport, length=length):
                return fragment4(source, destination, raw_segment(sport, dport)[:length], 0, True)
            self.fenced_only(make)

    def test_the_fragment_that_could_overwrite_the_flags_is_dropped(self):
        for start in STARTS:
            def make(a, source, destination, _sport, _dport, start=start):
                return fragment4(source, destination, stamped(start), 1, False)
            self.fenced_only(make)

    def test_later_fragments_pass_whatever_stands_where_ports_would(self):
        for offset, start in itertools.product((2, 3, 185, 8189), STARTS):
            def make(a, source, destination, _sport, _dport, offset=offset, start=start):
                return fragment4(source, destination, stamped(start), offset, True)
            self.untouched(make)

    def test_a_first_fragment_for_another_port_passes(self):
        self.untouched(lambda a, source, destination, _sport, _dport: fragment4(
            source, destination, raw_segment(40000, 587)[:24], 0, True))

    def test_fragments_of_udp_pass(self):
        for offset in (0, 1, 2, 185):
            def make(a, source, destination, sport, dport, offset=offset):
                return fragment4(source, destination, stamped(bytes(UDP(sport=sport, dport=dport))), offset, True,
                                 UDP_NUMBER)
            self.untouched(make)

    def test_ip_options_do_not_hide_the_ports(self):
        def make(a, source, destination, sport, dport):
            return a.packet(source, destination, options=[IPOption_NOP()] * 8) / segment(sport, dport)
        self.fenced_only(make)


class FragmentsV6(Evasions):
    families = (V6,)

    def test_a_first_fragment_with_its_ports_is_dropped(self):
        for length in (8, 16, 24, 40):
            def make(a, source, destination, sport, dport, length=length):
                return fragment6(a, source, destination, raw_segment(sport, dport)[:length], 0, True)
            self.fenced_only(make)

    def test_a_whole_packet_behind_a_fragment_header_is_dropped(self):
        def make(a, source, destination, sport, dport):
            return fragment6(a, source, destination, raw_segment(sport, dport), 0, False)
        self.fenced_only(make)

    def test_a_first_fragment_without_the_tcp_header_is_dropped(self):
        for size in (8, 16, 64, 512, 1024):
            def make(a, source, destination, _sport, _dport, size=size):
                return fragment6(a, source, destination, options(size, TCP_NUMBER), 0, True, DESTINATION_OPTIONS)
            self.fenced_only(make)

    def test_a_first_fragment_cut_inside_an_extension_header_is_dropped(self):
        def make(a, source, destination, _sport, _dport):
            return fragment6(a, source, destination, options(512, TCP_NUMBER)[:64], 0, True, DESTINATION_OPTIONS)
        self.fenced_only(make)

    def test_an_empty_first_fragment_is_dropped(self):
        def make(a, source, destination, _sport, _dport):
            return fragment6(a, source, destination, b"", 0, True)
        self.fenced_only(make)

    def test_the_fragment_that_brings_the_tcp_header_passes_without_its_first(self):
        def make(a, source, destination, sport, dport):
            return fragment6(a, source, destination, raw_segment(sport, dport), 8, False, DESTINATION_OPTIONS)
        self.untouched(make)

    def test_later_fragments_pass_whatever_stands_where_ports_would(self):
        for offset, start, label in itertools.product((1, 2, 180, 8191), STARTS, (0, 25)):
            def make(a, source, destination, _sport, _dport, offset=offset, start=start, label=label):
                packet = fragment6(a, source, destination, stamped(start), offset, False)
                packet.fl = label
                return packet
            self.untouched(make)

    def test_a_first_fragment_inside_a_whole_one_is_dropped(self):
        def make(a, source, destination, _sport, _dport):
            inner = bytes(IPv6ExtHdrFragment(nh=TCP_NUMBER, offset=0, m=1, id=next(numbers)))
            return fragment6(a, source, destination, inner, 0, False, 44)
        self.fenced_only(make)

    def test_fragments_of_udp_pass(self):
        for offset in (0, 1, 180):
            def make(a, source, destination, sport, dport, offset=offset):
                data = stamped(bytes(UDP(sport=sport, dport=dport)))
                return fragment6(a, source, destination, data, offset, True, UDP_NUMBER)
            self.untouched(make)

    def test_a_first_fragment_whose_udp_header_is_out_of_sight_passes(self):
        def make(a, source, destination, _sport, _dport):
            return fragment6(a, source, destination, options(64, UDP_NUMBER), 0, True, DESTINATION_OPTIONS)
        self.untouched(make)


class ExtensionHeaders(Evasions):
    families = (V6,)

    chains = {
        "hop-by-hop": lambda: IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]),
        "destination options": lambda: IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)]),
        "routing": lambda: IPv6ExtHdrRouting(type=4, segleft=0),
        "all": lambda: (IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)])
                        / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)]) / IPv6ExtHdrRouting(type=4, segleft=0)
                        / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 100)])),
    }

    def test_extension_headers_do_not_hide_the_ports(self):
        for name, chain in self.chains.items():
            with self.subTest(name):
                self.fenced_only(lambda a, source, destination, sport, dport, chain=chain:
                                 a.packet(source, destination) / chain() / segment(sport, dport))

    def test_what_only_a_partner_with_a_key_can_read_is_another_protocol(self):
        self.untouched(lambda a, source, destination, sport, dport: a.packet(source, destination)
                       / AH(spi=1, seq=1, icv=b"\0" * 12, payloadlen=4) / segment(sport, dport))

    def test_extension_headers_before_other_ports_pass(self):
        for name, chain in self.chains.items():
            with self.subTest(name):
                self.untouched(lambda a, source, destination, _sport, _dport, chain=chain:
                               a.packet(source, destination) / chain() / segment(40000, 587))


class CrowdedCounts(Evasions):
    counted = 65536  # sources at once, of each family

    def fill(self, family, packet, source):
        """Tries from more sources than are counted, again where a busy machine lost some of so many."""
        for _ in range(10):
            for number in range(70000):
                self.network.wire("home").send(with_source(packet, (source + number).packed))
            self.network.sentinel("home", "internet")
            if self.listing(family).count("counter packets") == self.counted:
                return
        self.fail("the kernel still counts further sources")

    def listing(self, family):
        return self.network.router.nft("list", "set", "inet", "smtpfence", f"attempts{family}")

    def test_sources_that_fill_the_counts_open_nothing_and_close_nothing(self):
        """More sources than the kernel counts: every verdict is as before, only uncounted."""
        for a, first, fresh in ((V4, "100.64.0.0", ("100.69.1.1", "100.65.200.1", "100.66.200.1")),
                                (V6, "2001:db8:100:300::", ("2001:db8:100:9100::1", "2001:db8:140:9100::1",
                                                            "2001:db8:150:9100::1"))):
            packet, source = bytes(tcp(a, first, a.server)), ipaddress.ip_address(first)
            self.fill(a.family, packet, source)
            self.dropped(tcp(a, fresh[0], a.server))
            self.rejected(tcp(a, fresh[1], a.server))
            self.passes(tcp(a, fresh[2], a.server))
            self.passes(tcp(a, a.expert, a.server))
            self.passes(tcp(a, fresh[0], a.relay))
            listing = self.listing(a.family)
            self.assertIn(str(source + 1), listing)
            for address in fresh:
                self.assertNotIn(f"{address} counter", listing)


class BesideOtherTables(Evasions):
    """An operator's tables in force beside ours."""

    families = FAMILIES
    operator = ""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.network.router.nft("-f", "-", input=cls.operator)

    def anything_of(self, packets, inside=None, source="home", destination="internet"):
        """Whether anything for the destination of these, or for the address `inside` that it is translated to, came
        out."""
        far = self.network.inject(packets, source, destination).far
        return (inside or packets[0].dst) in [packet.dst for packet in map(parsed, far)]


class ConnectionTracking(BesideOtherTables):
    """A filter that accepts what is established, before and after ours."""

    operator = """table inet operator {
        chain early { type filter hook forward priority -200; policy accept; ct state established,related accept; }
        chain filter {
            type filter hook forward priority 0; policy accept;
            ct state established,related accept
            accept
        }
    }"""

    def test_what_conntrack_takes_for_established_is_dropped(self):
        for a in self.families:
            for flags in ("S", "A", "PA", "PA"):
                self.dropped(tcp(a, a.drop, a.server, sport=41000, flags=flags))
                self.dropped(tcp(a, a.server, a.drop, sport=25, dport=41000, flags="SA"), "internet", "home")
        self.passes(tcp(V6, V6.expert, V6.server, sport=41000, flags="PA"))

    def test_reassembled_fragments_are_dropped(self):
        for line, arrives in ((V4.drop, False), (V4.expert, True)):
            data, number = raw_segment(40000, 25, 64), next(numbers) & 0xffff
            fragments = [IP(src=line, dst=V4.server, proto=TCP_NUMBER, id=number, frag=frag, flags=flags) / Raw(piece)
                         for frag, flags, piece in ((0, "MF", data[:8]), (1, "MF", data[8:40]), (5, 0, data[40:]))]
            self.assertEqual(self.anything_of(fragments), arrives)
        for line, arrives in ((V6.drop, False), (V6.expert, True)):
            data, number = options(64, TCP_NUMBER) + raw_segment(40000, 25, 64), next(numbers)
            fragments = [V6.packet(line, V6.server) / IPv6ExtHdrFragment(nh=DESTINATION_OPTIONS, id=number,
                                                                         offset=offset, m=more) / Raw(piece)
                         for offset, more, piece in ((0, 1, data[:64]), (8, 0, data[64:]))]
            self.assertEqual(self.anything_of(fragments), arrives)


class AddressTranslation(BesideOtherTables):
    """Lines hidden behind the router's own address, and some reached by its ports 7000 to 7003."""

    operator = """table inet operator {
        chain out { type nat hook postrouting priority srcnat; oifname "up0" masquerade; }
        chain in {
            type nat hook prerouting priority dstnat; iifname != "up0" accept;
            dnat ip to tcp dport map { %s }
            dnat ip6 to tcp dport map { %s }
        }
    }""" % tuple(", ".join(f"{port} : {line}"
                           for port, line in enumerate((a.drop, a.reject, a.expert, a.observe), 7000))
                 for a in FAMILIES)

    def test_the_inside_source_decides(self):
        for a in self.families:
            for line, arrives in ((a.drop, False), (a.reject, False), (a.expert, True), (a.observe, True)):
                self.assertEqual(self.anything_of([tcp(a, line, a.server, sport=42000)]), arrives, line)
            with Session(self.network, "home", a.expert, "internet", a.server) as session:
                internet = self.network.lines["internet"]
                self.assertEqual(session.server.getpeername()[0],
                                 internet.router4 if a.family == 4 else internet.router6)

    def test_the_inside_destination_decides(self):
        for a in self.families:
            internet = self.network.lines["internet"]
            outside = internet.router4 if a.family == 4 else internet.router6
            for port, line in enumerate((a.drop, a.reject, a.expert, a.observe), 7000):
                arrives = line in (a.expert, a.observe)
                for source, flags in ((a.server, "S"), (a.alien, "A")):
                    packet = tcp(a, source, outside, sport=25, dport=port, flags=flags)
                    self.assertEqual(self.anything_of([packet], line, "internet", "home"), arrives, packet.summary())
                relayed = tcp(a, a.relay, outside, sport=25, dport=port)
                self.assertTrue(self.anything_of([relayed], line, "internet", "home"), relayed.summary())


if __name__ == "__main__":
    unittest.main()
