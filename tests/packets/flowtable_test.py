"""Flow offload: a session that a flow table carries skips every rule, until the service makes the kernel forget it: on
plain interfaces, and through VLANs and PPPoE, of which the flow table has the interface below or the line's own."""

import os
import re
import unittest

import sessions_test
from network import FAMILIES, Line, Session, receive
from packet_case import PacketCase
from pppoe_test import BOTH_ENDS, Subscriber
from stock_kernel import on_stock_kernel

load_tests = on_stock_kernel("flowtable_test")

FLOWTABLE = """table inet fast {{
    counter judged {{ }}
    flowtable carried {{ hook ingress priority 0; devices = {{ {devices} }}; }}
    chain forward {{
        type filter hook forward priority 0;
        tcp sport 25 counter name judged
        tcp dport 25 counter name judged
        meta l4proto tcp flow add @carried
    }}
}}"""
OFFICE = ("100.71.7.7", "2001:db8:171:700::7")


class Flowtable(PacketCase):
    segments, is_cut = sessions_test.Sessions.segments, sessions_test.Sessions.is_cut
    goes_on = sessions_test.Sessions.goes_on

    devices = ("bng0", "up0")
    line, customer, addresses = "home", "expert", tuple(a.expert for a in FAMILIES)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.build()
        cls.network.router.nft("-f", "-", input=FLOWTABLE.format(devices=", ".join(f'"{one}"' for one in cls.devices)))

    @classmethod
    def build(cls):
        """Makes the line, where the network has none."""

    def carried(self):
        """Whether connection tracking says that a flow table carries a session to port 25."""
        with self.network.router, open("/proc/thread-self/net/nf_conntrack", encoding="ascii") as file:
            return any("[OFFLOAD]" in line and "dport=25 " in line for line in file)

    def judged(self):
        """Packets of port 25 that met rules."""
        counter = self.network.router.nft("list", "counter", "inet", "fast", "judged")
        return int(re.search(r"packets (\d+)", counter)[1])

    @staticmethod
    def talk(session):
        for _ in range(3):
            session.client.sendall(b"EHLO line\r\n")
            receive(session.server, 11)
            session.server.sendall(b"250 mail\r\n")
            receive(session.client, 10)

    def session(self, source, destination):
        """One that the flow table carries, both ways."""
        session = Session(self.network, self.line, source, "internet", destination)
        self.talk(session)
        self.assertTrue(self.carried())
        before = self.judged()
        self.assertGreater(before, 0)
        self.talk(session)
        if self.judged() != before:  # one packet more, once in several runs of an emulated machine
            before = self.judged()
            self.talk(session)
        self.assertEqual(self.judged(), before)
        return session

    def revoke(self):
        self.service.command("exempt", "revoke", self.customer, *sessions_test.REASON)

    def grant(self):
        self.service.command("exempt", "grant", self.customer, *sessions_test.REASON)

    def test_it_is_named(self):
        named = f"flowtable carried of table inet fast ({', '.join(self.devices)}): sessions in it skip the fence"
        self.assertIn(named, "\n".join(self.service.json("check")["warnings"]))

    def test_a_session_in_it_is_cut_when_its_right_is_revoked(self):
        for a, line in zip(FAMILIES, self.addresses):
            with self.subTest(family=a.family), self.session(line, a.server) as session:
                self.revoke()
                self.assertFalse(self.carried())
                self.is_cut(session, line, a.server, self.line)
                self.grant()
                self.goes_on(session)

    def test_a_session_to_a_relay_stays_in_it(self):
        for a, line in zip(FAMILIES, self.addresses):
            with self.subTest(family=a.family), self.session(line, a.relay) as session:
                before = self.judged()
                self.revoke()
                self.talk(session)
                self.assertTrue(self.carried())
                self.assertEqual(self.judged(), before)
                self.grant()


class Above(Flowtable):
    """The line's interface stands above bng01; the flow table has the one below, as its frames come in there."""

    devices, line, customer, addresses = ("bng01", "up0"), "office", "office", OFFICE

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.service.command("assign", "office", OFFICE[0], "2001:db8:171:700::/64")
        cls.service.command("exempt", "grant", "office", *sessions_test.REASON)


class Vlan(Above):
    device = "vlan7"
    links = ("link add link {below} name vlan7 type vlan id 7",)

    @classmethod
    def build(cls):
        """The office moves there."""
        router, below = cls.network.router, cls.network.lines["office"]
        line = Line(5, cls.device, below.prefixes, OFFICE)
        line.namespace, line.router_mac, line.own_mac = below.namespace, below.router_mac, below.own_mac
        router.ip(*[link.format(below=below.interface) for link in cls.links])
        line.namespace.ip(*[link.format(below="line") for link in cls.links])
        line.settle(router, cls.device)
        below.wire.socket.close()
        cls.network.lines["office"] = line


class VlanInVlan(Vlan):
    device = "vlan87"
    links = ("link add link {below} name outer type vlan proto 802.1ad id 8", "link set outer up",
             "link add link outer name vlan87 type vlan id 7")


class VlanItself(Vlan):
    devices = ("up0", "vlan7")


class Pppoe(Above):
    """Both ends are the kernel's; that the session was found before is pppoe_test's."""

    subscriber = ("bng0", "ppp*")
    line = "dialled"

    @classmethod
    def build(cls):
        router, office = cls.network.router, cls.network.lines["office"]
        router.run("modprobe", "pppoe")
        with open(os.path.join(cls.service.directory, "ppp7"), "w", encoding="utf-8") as log:
            server = router.start("pppd", "plugin", "rp-pppoe.so", "bng01", "rp_pppoe_sess", f"7:{office.own_mac}", "192.0.2.254:",
                                  "ifname", "ppp7", "nodetach", "nodefaultroute", "ipcp-accept-remote", *BOTH_ENDS.split(),
                                  stdout=log, stderr=log)
        cls.addClassCleanup(server.wait)
        cls.addClassCleanup(server.terminate)
        line = Subscriber(cls, "dialled", OFFICE)
        line.dial("rp_pppoe_sess", f"7:{office.router_mac}")
        cls.addClassCleanup(line.hang_up)
        line.namespace.ip(f"addr add {OFFICE[1]} dev dialled nodad",
                          *[f"route add {address} dev dialled" for a in FAMILIES for address in (a.relay, a.server)])


class PppoeItself(Pppoe):
    devices = ("ppp7", "up0")


del Above

if __name__ == "__main__":
    unittest.main()
