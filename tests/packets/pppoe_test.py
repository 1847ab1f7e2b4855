"""PPPoE: the router ends its lines' sessions itself. Each is an interface that comes and goes, and `ppp*` names them all."""

import os
import socket
import time
import unittest

from scapy.layers.inet import IP, UDP

from network import ETH_P_ALL, FAMILIES, PACKET_OUTGOING, Wire
from packet_case import PacketCase, tcp
from service import still
from stock_kernel import on_stock_kernel

load_tests = on_stock_kernel("pppoe_test")

PATIENCE = 200  # emulated beside other work, a session takes long
ETHER_TYPES = {4: 0x0800, 6: 0x86dd}
FENCED = ("100.71.0.9", "2001:db8:171:9::9")
EXPERT = ("100.71.7.7", "2001:db8:171:700::7")
BOTH_ENDS = "noauth noccp +ipv6 lcp-max-configure 100 ipcp-max-configure 100 ipv6cp-max-configure 100"


class PppWire(Wire):
    """The subscriber's end of a session: packets without a link's header."""

    def __init__(self, namespace, interface):
        self.interface = interface
        with namespace:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
            self.socket.bind((interface, ETH_P_ALL))

    def send(self, packet):
        raw = bytes(packet)
        self.socket.sendto(raw, (self.interface, ETHER_TYPES[raw[0] >> 4]))

    def next(self, deadline):
        self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
        while True:
            try:
                raw, address = self.socket.recvfrom(65535)
            except TimeoutError:
                return None
            if address[2] != PACKET_OUTGOING and address[1] in ETHER_TYPES.values():
                return raw


class Subscriber:
    """Who dials in from behind the router's bng01: one of the network's lines while the session is up."""

    def __init__(self, case, name, addresses):
        self.network, self.service, self.name = case.network, case.service, name
        self.own4, self.own6 = addresses
        self.namespace = case.network["office"]
        self.process = self.wire = self.device = None

    def dial(self, *words):
        """`words`: more for pppd."""
        office = self.namespace
        with open(os.path.join(self.service.directory, "pppd"), "a", encoding="utf-8") as log:
            self.process = office.start("pppd", "plugin", "rp-pppoe.so", "line", *words, f"{self.own4}:", "ifname", self.name,
                                        "nodetach", "nodefaultroute", *BOTH_ENDS.split(), stdout=log, stderr=log)
        self.until(self.router_device, "session")
        self.device = self.router_device()
        self.network.router.ip(f"route add {self.own6} dev {self.device}")
        self.wire = PppWire(office, self.name)
        self.network.lines[self.name] = self
        internet = self.network.lines["internet"]
        self.network.sentinels[self.name, "internet"] = self.network.sentinel_header(self.name, "internet")
        self.network.sentinels["internet", self.name] = bytes(
            IP(src=internet.own4, dst=self.own4) / UDP(sport=9, dport=9, chksum=0) / bytes(16))[:-16]

    def router_device(self):
        """The router's end of the session; none: it isn't up."""
        words = self.network.router.run("ip", "-o", "route", "show", self.own4).stdout.split()
        return words[words.index("dev") + 1] if "dev" in words else None

    def hang_up(self):
        """Returns when the router's end is gone, too."""
        self.network.lines.pop(self.name, None)
        if self.wire:
            self.wire.socket.close()
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.until(lambda: self.device not in self.network.router.run("ip", "-br", "link").stdout, "end of the session")

    def until(self, condition, what):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                with open(os.path.join(self.service.directory, "pppd"), encoding="utf-8") as log:
                    raise AssertionError(f"no {what} of {self.name}\n{log.read()}")
            time.sleep(0.1)


class Pppoe(PacketCase):
    subscriber = ("bng0", "ppp*")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.service.command("assign", "office", EXPERT[0], "2001:db8:171:700::/64")
        cls.service.command("exempt", "grant", "office", "--reason", "mail server", "--wait", "20s")
        cls.before = cls.warnings()
        router = cls.network.router
        router.run("modprobe", "-a", "pppoe", "ppp_async")
        options = os.path.join(cls.service.directory, "session")
        with open(options, "w", encoding="ascii") as file:
            file.write(f"ipcp-accept-remote {BOTH_ENDS}\n")
        server = router.start("pppoe-server", "-F", "-I", "bng01", "-L", "192.0.2.254", "-O", options)
        cls.addClassCleanup(server.wait)
        cls.addClassCleanup(server.terminate)
        cls.fenced, cls.expert = Subscriber(cls, "fenced", FENCED), Subscriber(cls, "expert", EXPERT)
        for one in (cls.fenced, cls.expert):
            one.dial()
            cls.addClassCleanup(one.hang_up)

    @classmethod
    def warnings(cls):
        return [words for words in cls.service.json("check")["warnings"] if "ppp" in words]

    def both_are_judged(self):
        for a, fenced, expert in zip(FAMILIES, FENCED, EXPERT):
            self.dropped(tcp(a, fenced, a.server), "fenced")
            self.dropped(tcp(a, expert, a.server), "fenced")  # who poses as his neighbour
            self.dropped(tcp(a, a.stray, a.server), "fenced")
            self.passes(tcp(a, fenced, a.relay), "fenced")
            self.passes(tcp(a, fenced, a.server, dport=587), "fenced")
            self.passes(tcp(a, expert, a.server), "expert")
            self.dropped(tcp(a, a.server, fenced, sport=25, dport=40000, flags="SA"), "internet", "fenced")
            self.passes(tcp(a, a.relay, fenced, sport=25, dport=40000, flags="SA"), "internet", "fenced")
            self.passes(tcp(a, a.server, expert, sport=25, dport=40000, flags="SA"), "internet", "expert")

    def test_sessions_come_and_go_and_the_fence_is_there(self):
        self.assertEqual(len(self.before), 1)
        self.assertIn('"ppp*" matches no interface now', self.before[0])
        self.assertEqual(self.warnings(), [])
        handles = still(self.network.router.nft("-a", "list", "table", "inet", "smtpfence"))
        self.both_are_judged()
        devices = (self.fenced.device, self.expert.device)
        for one in (self.fenced, self.expert):
            one.hang_up()
        for one in (self.expert, self.fenced):
            one.dial()
        self.assertEqual((self.expert.device, self.fenced.device), devices)  # each has the other's
        self.both_are_judged()
        self.assertEqual(still(self.network.router.nft("-a", "list", "table", "inet", "smtpfence")), handles)

    def test_a_right_that_is_revoked_ends_within_a_session(self):
        self.service.command("exempt", "revoke", "office", "--reason", "abuse", "--wait", "20s")
        for a, expert in zip(FAMILIES, EXPERT):
            self.dropped(tcp(a, expert, a.server), "expert")
        self.service.command("exempt", "grant", "office", "--reason", "mail server", "--wait", "20s")
        for a, expert in zip(FAMILIES, EXPERT):
            self.passes(tcp(a, expert, a.server), "expert")


if __name__ == "__main__":
    unittest.main()
