"""Frames inside others: the fence holds where the encapsulation ends, on the interface that takes the packets out."""

import time
import unittest

from scapy.layers.inet import IP
from scapy.layers.l2 import GRE, Dot1AD, Dot1Q, Ether

from network import FAMILIES, FRAME_PATIENCE
from packet_case import PacketCase, tcp
from stock_kernel import on_stock_kernel

load_tests = on_stock_kernel("encapsulation_test")

FENCED = ("100.71.0.9", "2001:db8:171::9")
EXPERT = ("100.71.7.7", "2001:db8:171:700::7")


class Encapsulation(PacketCase):
    """`build` makes `device` above (or of) the office's line, `around` is what stands around a packet there, and
    `tables` hold the routes to the line."""

    device, build, around, tables = "", (), (), ("main",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        office, prefixes = cls.network.lines["office"], cls.network.lines["office"].prefixes
        carrier = "bng01" if len(cls.tables) > 1 else cls.device
        cls.network.router.ip(
            *[command.format(o=office, up=cls.network.lines["internet"]) for command in cls.build],
            f"link set {cls.device} up",
            *[f"route replace {prefix} dev {carrier} table {table}" for prefix in prefixes for table in cls.tables])
        if GRE not in cls.around:
            cls.network.router.ip(*[f"neigh replace {address} lladdr {office.own_mac} dev {carrier} nud permanent"
                                    for address in FENCED + EXPERT])
        cls.service.command("assign", "office", EXPERT[0], "2001:db8:171:700::/64")
        cls.service.command("exempt", "grant", "office", "--reason", "mail server", "--wait", "20s")

    def framed(self, packet):
        office = self.network.lines["office"]
        frame = Ether(src=office.own_mac, dst=office.router_mac)
        for layer in self.around:
            frame = frame / (IP(src=office.own4, dst=office.router4) / GRE() if layer is GRE else layer)
        return bytes(frame / packet)

    def out(self, packet):
        return self.network.wire("office").socket.send(self.framed(packet))

    def back(self, packet):
        return self.network.wire("internet").send(packet)

    def arrive(self, send, destination, *packets):
        """Which of the segments leave by an interface, in whatever frames; nothing stops the last one."""
        wire = self.network.wire(destination)
        wire.waiting()
        segments = [bytes(packet)[-20:] for packet in packets]
        for packet in packets:
            send(packet)
        frames, deadline = b"", time.monotonic() + FRAME_PATIENCE
        wire.socket.settimeout(FRAME_PATIENCE)
        while segments[-1] not in frames:
            self.assertLess(time.monotonic(), deadline, packets[-1].summary())
            frames += wire.socket.recv(65535)
        return [segment in frames for segment in segments[:-1]]

    def test_outbound_the_inner_packet_is_judged(self):
        for a, fenced, expert in zip(FAMILIES, FENCED, EXPERT):
            with self.subTest(family=a.family):
                self.assertEqual(self.arrive(self.out, "internet", tcp(a, fenced, a.server), tcp(a, a.office, a.server),
                                             tcp(a, a.expert, a.server), tcp(a, expert, a.server),
                                             tcp(a, fenced, a.relay), tcp(a, fenced, a.server, dport=587)),
                                 [False, False, False, True, True])

    def test_inbound_the_inner_packet_is_judged(self):
        for a, fenced, expert in zip(FAMILIES, FENCED, EXPERT):
            with self.subTest(family=a.family):
                self.assertEqual(self.arrive(self.back, "office", tcp(a, a.server, fenced, sport=25, dport=40000),
                                             tcp(a, a.server, expert, sport=25, dport=40000),
                                             tcp(a, a.relay, fenced, sport=25, dport=40000),
                                             tcp(a, a.server, fenced, sport=587, dport=40000)),
                                 [False, True, True])

    def test_nothing_is_named(self):
        self.assertNotIn("bng01", "".join(self.service.json("check")["warnings"]))


class Vlan(Encapsulation):
    device, build = "vlan7", ("link add link bng01 name vlan7 type vlan id 7",)
    around = (Dot1Q(vlan=7),)


class VlanInVlan(Encapsulation):
    device = "vlan87"
    build = ("link add link bng01 name outer type vlan proto 802.1ad id 8", "link set outer up",
             "link add link outer name vlan87 type vlan id 7")
    around = (Dot1AD(vlan=8), Dot1Q(vlan=7))


class Tunnel(Encapsulation):
    device, build = "vlan-gre", ("link add vlan-gre type gre local {o.router4} remote {o.own4}",)
    around = (GRE,)


class Bond(Encapsulation):
    device = "vlan-bond"
    build = ("link add vlan-bond type bond mode active-backup", "link set bng01 down",
             "link set bng01 master vlan-bond", "link set bng01 up")


class Bridge(Encapsulation):
    device = "vlan-br"
    build = ("link add vlan-br type bridge", "link set bng01 master vlan-br", "link set bng01 type bridge_slave isolated on")


class Vrf(Encapsulation):
    device, tables = "vlan-vrf", ("main", "10")
    build = ("link add vlan-vrf type vrf table 10", "link set bng01 master vlan-vrf",
             "route add default via {up.own4} dev up0 table 10", "route add ::/0 via {up.own6} dev up0 table 10")


class PortOfBond(PacketCase):
    subscriber = ("bng0", "bng01")

    def test_naming_the_port_is_not_enough_and_check_says_so(self):
        self.network.router.ip(*Bond.build, "link set vlan-bond up")
        self.assertIn("subscriber interface bng01 is a port of bond vlan-bond, as whose its packets are forwarded",
                      "\n".join(self.service.json("check")["warnings"]))
        for a in FAMILIES:
            self.passes(tcp(a, a.office, a.server), "office")


class LabelSwitching(PacketCase):
    def test_it_is_named(self):
        self.network.router.run("modprobe", "mpls_router")
        self.network.router.set("mpls/platform_labels", 100)
        self.network.router.set("mpls/conf/up0/input", 1)
        self.assertIn("MPLS is forwarded from up0", "\n".join(self.service.json("check")["warnings"]))


del Encapsulation

if __name__ == "__main__":
    unittest.main()
