"""Flow offload: a session that a flow table carries skips every rule, until the service makes the kernel forget it."""

import unittest

import sessions_test
from network import FAMILIES, Session, receive
from packet_case import PacketCase
from stock_kernel import on_stock_kernel

load_tests = on_stock_kernel("flowtable_test")

FLOWTABLE = """table inet fast {
    flowtable carried { hook ingress priority 0; devices = { "bng0", "up0" }; }
    chain forward { type filter hook forward priority 0; meta l4proto tcp flow add @carried; }
}"""


class Flowtable(PacketCase):
    segments, is_cut = sessions_test.Sessions.segments, sessions_test.Sessions.is_cut
    goes_on = sessions_test.Sessions.goes_on

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.network.router.nft("-f", "-", input=FLOWTABLE)

    def carried(self, a):
        """Whether connection tracking says that a flow table carries a session of the exempt line."""
        with self.network.router, open("/proc/thread-self/net/nf_conntrack", encoding="ascii") as file:
            return any("[OFFLOAD]" in line and "dport=25 " in line for line in file)

    def session(self, a):
        """One that the flow table carries."""
        session = Session(self.network, "home", a.expert, "internet", a.server)
        for _ in range(3):
            session.client.sendall(b"EHLO line\r\n")
            receive(session.server, 11)
            session.server.sendall(b"250 mail\r\n")
            receive(session.client, 10)
        self.assertTrue(self.carried(a))
        return session

    def test_it_is_named(self):
        named = "flowtable carried of table inet fast (bng0, up0): sessions in it skip the fence"
        self.assertIn(named, "\n".join(self.service.json("check")["warnings"]))

    def test_a_session_in_it_is_cut_when_its_right_is_revoked(self):
        for a in FAMILIES:
            with self.subTest(family=a.family), self.session(a) as session:
                self.service.command("exempt", "revoke", "expert", *sessions_test.REASON)
                self.assertFalse(self.carried(a))
                self.is_cut(session, a.expert, a.server)
                self.service.command("exempt", "grant", "expert", *sessions_test.REASON)
                self.goes_on(session)

    def test_a_session_to_a_relay_stays_in_it(self):
        for a in FAMILIES:
            with self.subTest(family=a.family), Session(self.network, "home", a.expert, "internet", a.relay) as session:
                self.service.command("exempt", "revoke", "expert", *sessions_test.REASON)
                session.client.sendall(b"EHLO line\r\n")
                self.assertEqual(receive(session.server, 11), b"EHLO line\r\n")
                self.assertTrue(self.carried(a))
                self.service.command("exempt", "grant", "expert", *sessions_test.REASON)


if __name__ == "__main__":
    unittest.main()
