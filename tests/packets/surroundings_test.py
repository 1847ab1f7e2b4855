"""Ways past the fence that no rule in the forward hook can close: bridges, and programs and redirections before it.
`check` names each, and so does `status` where the service runs. That they are ways past it is shown with frames."""

import ctypes
import os
import socket
import struct
import time
import unittest
from functools import reduce
from operator import truediv

from scapy.layers.l2 import Dot1Q, Ether

from network import FAMILIES, FRAME_PATIENCE, Network, content, libc
from packet_case import tcp
from service import PROGRAM, Service

SYS_BPF, BPF_PROG_LOAD, BPF_LINK_CREATE = 321, 5, 28
BPF_PROG_TYPE_XDP, BPF_XDP = 6, 37
PASS_ALL = struct.pack("<QQ", 0xb7 | 2 << 32, 0x95)  # r0 = XDP_PASS; exit


def bpf(command, attributes):
    """A descriptor."""
    descriptor = libc.syscall(SYS_BPF, command, ctypes.create_string_buffer(attributes, 128), 128)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return descriptor


def attach_xdp(namespace, interface):
    """A program that lets every frame pass; it stays until the descriptor is closed."""
    code, license_text = ctypes.create_string_buffer(PASS_ALL), ctypes.create_string_buffer(b"GPL")
    program = bpf(BPF_PROG_LOAD, struct.pack("<IIQQ", BPF_PROG_TYPE_XDP, len(PASS_ALL) // 8, ctypes.addressof(code),
                                             ctypes.addressof(license_text)))
    with namespace:
        link = bpf(BPF_LINK_CREATE, struct.pack("<IIII", program, socket.if_nametoindex(interface), BPF_XDP, 0))
    os.close(program)
    return link


class Surroundings(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.network = Network()
        self.addCleanup(self.network.close)
        self.router = self.network.router
        self.service = Service(self.network)
        self.addCleanup(self.service.close)
        self.service.command("init")
        self.service.command("relay", "add", *[a.relay for a in FAMILIES])
        self.service.command("pool", "add", "100.64.0.0/10", "2001:db8:100::/40", "192.0.2.0/24", "2001:db8::/48")
        self.warned()

    def warned(self, *beginnings):
        """One warning each, and no more."""
        warnings = self.service.json("check", "--strict")["warnings"]
        self.assertEqual(len(warnings), len(beginnings), warnings)
        for warning, beginning in zip(warnings, beginnings):
            self.assertTrue(warning.startswith(beginning), warning)

    def switched(self, a, *tag):
        """What gets from bng0 to up0 of two frames that a bridge may take: a fenced line's segment to port 25, and one
        to another port behind it."""
        home, internet = self.network.lines["home"], self.network.lines["internet"]
        internet.wire.waiting()
        packets = [tcp(a, a.drop, a.server), tcp(a, a.drop, a.server, dport=587)]
        for packet in packets:
            home.wire.socket.send(bytes(reduce(truediv, (Ether(src=home.own_mac, dst=internet.own_mac), *tag, packet))))
        arrived, deadline = [], time.monotonic() + FRAME_PATIENCE / 10
        while packets[1] not in arrived and (raw := internet.wire.next(deadline)) is not None:
            arrived += [packet for packet in packets if content(raw) == content(bytes(packet))]
        return tuple(packet in arrived for packet in packets)

    def bridge(self, *commands):
        for family in ("ip", "ip6"):
            self.router.set(f"bridge/bridge-nf-call-{family}tables", 0)
        self.router.ip("link add br0 type bridge", "link set br0 up", "link set bng0 master br0",
                       "link set up0 master br0", *commands)

    def test_a_port_of_a_bridge_is_named_and_is_a_way_past_the_fence(self):
        self.service.start()
        self.bridge()
        self.warned("subscriber interface bng0 is a port of bridge br0: what it passes from port to port (bng0, up0) "
                    "is not fenced;")
        for a in FAMILIES:
            self.assertEqual(self.switched(a), (True, True))

    def test_a_bridge_that_asks_the_forward_hook_is_fenced_but_for_tagged_frames(self):
        self.service.start()
        self.bridge()
        for family in ("ip", "ip6"):
            self.router.set(f"bridge/bridge-nf-call-{family}tables", 1)
        self.warned("subscriber interface bng0 is a port of bridge br0: what it passes from port to port (bng0, up0) "
                    "is not fenced when it has a tag (VLAN, PPPoE)")
        for a in FAMILIES:
            self.assertEqual(self.switched(a), (False, True))
            self.assertEqual(self.switched(a, Dot1Q(vlan=7)), (True, True))

    def test_isolated_ports_of_a_bridge_are_no_way_past_the_fence(self):
        self.service.start()
        self.bridge("link set bng0 type bridge_slave isolated on", "link set up0 type bridge_slave isolated on")
        self.warned("subscriber interface bng0 is a port of bridge br0, as whose its packets are forwarded")
        self.service.configure(subscriber=("br0", "vlan*"))
        self.warned()
        for a in FAMILIES:
            self.assertEqual(self.switched(a), (False, False))

    def test_a_subscriber_interface_that_is_a_bridge_is_named(self):
        self.bridge()
        self.service.configure(subscriber=("br0", "vlan*"))
        self.warned("subscriber interface br0 is a bridge: what it passes from port to port (bng0, up0) is not fenced")

    def test_bridges_elsewhere_are_not_named(self):
        self.router.ip("link add br0 type bridge", "link set bng01 master br0", "link set up0 master br0")
        self.warned()

    def test_a_program_before_the_kernel_is_named(self):
        link = attach_xdp(self.router, "bng0")
        try:
            self.warned("an XDP program on bng0 gets the subscribers' frames before the fence")
            self.service.configure(subscriber=("vlan*",))
            self.warned()
        finally:
            os.close(link)

    def test_a_redirection_by_tc_is_named_and_is_a_way_past_the_fence(self):
        self.service.start()
        self.router.run("tc", "qdisc", "add", "dev", "bng0", "clsact")
        self.warned()
        self.router.run("tc", "filter", "add", "dev", "bng0", "ingress", "protocol", "all", "u32", "match", "u32", "0",
                        "0", "action", "mirred", "egress", "redirect", "dev", "up0")
        self.warned("tc filter u32 on bng0 may send frames on to up0 before they reach the fence")
        for a in FAMILIES:
            self.assertEqual(self.switched(a), (True, True))

    def test_shaping_by_tc_is_not_named(self):
        self.router.ip("link add ifb0 type ifb")
        self.router.run("tc", "qdisc", "add", "dev", "bng0", "ingress")
        self.router.run("tc", "filter", "add", "dev", "bng0", "parent", "ffff:", "protocol", "all", "u32", "match",
                        "u32", "0", "0", "action", "mirred", "egress", "redirect", "dev", "ifb0")
        self.router.run("tc", "qdisc", "add", "dev", "vlan101", "clsact")
        self.router.run("tc", "filter", "add", "dev", "vlan101", "ingress", "protocol", "all", "u32", "match", "u32",
                        "0", "0", "action", "mirred", "egress", "mirror", "dev", "up0")
        self.warned()

    def test_a_redirection_by_another_table_is_named_and_is_a_way_past_the_fence(self):
        self.service.start()
        chain = """table netdev early {
            chain ingress { type filter hook ingress device "bng0" priority 0; %s; }
        }"""
        self.router.nft("-f", "-", input=chain % "counter")
        self.warned()
        self.router.nft("-f", "-", input=chain % 'fwd to "up0"')
        self.warned("chain ingress of table netdev early may send frames on before they reach the fence")
        for a in FAMILIES:
            self.assertEqual(self.switched(a), (True, True))

    def test_a_pattern_without_an_interface_is_named(self):
        self.service.configure(subscriber=("bng0", "bng", "ppp*", "vlan*"))
        self.warned('[interfaces] subscriber "bng" matches no interface now',
                    '[interfaces] subscriber "ppp*" matches no interface now')

    def test_a_session_is_connected_to_its_far_end(self):
        self.router.ip("tuntap add ppp0 mode tun", "addr add 203.0.113.254 peer 100.64.3.7 dev ppp0",
                       "tuntap add ppp1 mode tun", "addr add 100.64.3.8 peer 203.0.113.253 dev ppp1")
        self.service.configure(subscriber=("ppp*",))
        self.warned("connected prefixes outside every pool, not fenced: 203.0.113.253/32 on ppp1")

    def test_status_shows_what_the_service_finds(self):
        self.router.ip("link add br0 type bridge", "link set bng0 master br0", "link set up0 master br0")
        self.service.start()
        beginning = "subscriber interface bng0 is a port of bridge br0"

        def shown():
            return [warning[:len(beginning)] for warning in self.service.json("status")["items"][0]["warnings"]]
        self.service.enforced(lambda: shown() == [beginning], "warning in status")
        self.assertIn(beginning, self.service.journal())

    def test_a_missing_right_to_ask_is_told(self):
        done = self.router.run("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", PROGRAM,
                               "--config", self.service.configuration, "check")
        self.assertIn("could not all be looked for: flow tables: Operation not permitted", done.stderr)


if __name__ == "__main__":
    unittest.main()
