"""Exemptions with real connections: granted, revoked, handed on and run out, with the service alive and dead."""

import datetime
import time
import unittest

from scapy.layers.inet import TCP

from network import FAMILIES, V4, Session, parsed, receive
from packet_case import PacketCase, tcp

# The desk's words for a change that it waits for.
REASON = ("--reason", "asked by telephone", "--wait", "20s")


# Prefixes of every kind of length, the addresses at their ends, and those next to them.
EXEMPT = ("100.64.40.0/22", "100.64.48.0/24", "100.64.50.0/29", "100.64.51.2/31",
          "2001:db8:104::/46", "2001:db8:109::/48", "2001:db8:100:4000::/60", "2001:db8:100:4100::/64",
          "2001:db8:100:4300::8/126")
INSIDE = ("100.64.40.0", "100.64.43.255", "100.64.48.0", "100.64.48.255", "100.64.50.0", "100.64.50.7", "100.64.51.2",
          "100.64.51.3", "2001:db8:104::", "2001:db8:107:ffff:ffff:ffff:ffff:ffff", "2001:db8:109:ffff::",
          "2001:db8:100:4000::", "2001:db8:100:400f:ffff:ffff:ffff:ffff", "2001:db8:100:4100::",
          "2001:db8:100:4100:ffff:ffff:ffff:ffff", "2001:db8:100:4300::8", "2001:db8:100:4300::b")
BESIDE = ("100.64.39.255", "100.64.44.0", "100.64.47.255", "100.64.49.0", "100.64.50.8", "100.64.51.1", "100.64.51.4",
          "2001:db8:103:ffff:ffff:ffff:ffff:ffff", "2001:db8:108::", "2001:db8:10a::", "2001:db8:100:4010::",
          "2001:db8:100:40ff:ffff:ffff:ffff:ffff", "2001:db8:100:4101::", "2001:db8:100:4300::7",
          "2001:db8:100:4300::c")


def in_seconds(seconds):
    """A time for --until, and when that is on time.time()'s clock."""
    end = int(time.time()) + seconds
    return datetime.datetime.fromtimestamp(end, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), end


class Sessions(PacketCase):
    def setUp(self):
        if self.service.process is None:
            self.service.start()

    def passed(self, packet, source="home", destination="internet"):
        return self.network.inject(packet, source, destination).arrived

    def segments(self, packets, source, destination):
        """The TCP segments with port 25 among captured packets that go one way."""
        return [packet.summary() for packet in map(parsed, packets)
                if TCP in packet and 25 in (packet[TCP].sport, packet[TCP].dport)
                and (packet.src, packet.dst) == (source, destination)]

    def is_cut(self, session, line, server, source="home"):
        """Sends both ways over a connection from behind `source` and sees that neither gets through."""
        for namespace_wire in self.network.lines.values():
            namespace_wire.wire.waiting()
        session.client.sendall(b"MAIL FROM:<a@example>\r\n")
        far, _ = self.network.sentinel(source, "internet")
        self.assertEqual(self.segments(far, line, server), [])
        session.server.sendall(b"250 ok\r\n")
        far, _ = self.network.sentinel("internet", source)
        self.assertEqual(self.segments(far, server, line), [])

    def goes_on(self, session):
        """What was sent meanwhile arrives by TCP's own repetition."""
        self.assertEqual(receive(session.server, 23), b"MAIL FROM:<a@example>\r\n")
        self.assertEqual(receive(session.client, 8), b"250 ok\r\n")

    def test_an_open_session_is_cut_on_revocation_and_goes_on_after_a_grant(self):
        for a in FAMILIES:
            with self.subTest(family=a.family), \
                    Session(self.network, "home", a.expert, "internet", a.server) as session:
                self.service.command("exempt", "revoke", "expert", *REASON)
                self.is_cut(session, a.expert, a.server)
                granted = self.service.json("exempt", "grant", "expert", *REASON)
                self.assertEqual([router["enforced"] for router in granted["routers"]], [True])
                print(f"grant enforced after {granted['routers'][0]['milliseconds']} ms")
                self.goes_on(session)

    def test_a_session_is_cut_when_the_address_is_handed_to_another_customer(self):
        for a, prefix in zip(FAMILIES, ("100.64.7.7", "2001:db8:100:700::/56")):
            with self.subTest(family=a.family), \
                    Session(self.network, "home", a.expert, "internet", a.server) as session:
                self.service.command("assign", "newcomer", prefix, "--take", "--wait", "20s")
                self.is_cut(session, a.expert, a.server)
                self.dropped(tcp(a, a.expert, a.server))
                self.service.command("assign", "expert", prefix, "--take", "--wait", "20s")
                self.goes_on(session)

    def test_an_exemption_follows_its_customer_to_a_new_address_and_leaves_the_old_one(self):
        for a, old, new in zip(FAMILIES, ("100.64.30.1", "2001:db8:100:3000::/56"),
                               ("100.64.30.2", "2001:db8:100:3100::/56")):
            first, second = old.replace("/56", "1"), new.replace("/56", "1")
            self.service.command("assign", "mover", old)
            self.service.command("exempt", "grant", "mover", *REASON)
            self.passes(tcp(a, first, a.server))
            self.dropped(tcp(a, second, a.server))
            self.service.command("release", old, "--wait", "20s")
            self.service.command("assign", "mover", new, "--wait", "20s")
            self.dropped(tcp(a, first, a.server))
            self.passes(tcp(a, second, a.server))

    def test_every_length_of_prefix_can_be_exempt(self):
        self.service.command("assign", "wide", *EXEMPT, "--wait", "20s")
        self.service.command("exempt", "grant", "wide", *REASON)
        for address in INSIDE:
            a = FAMILIES[":" in address]
            self.passes(tcp(a, address, a.server))
            self.passes(tcp(a, a.server, address, sport=25, dport=40000, flags="SA"), "internet", "home")
        for address in BESIDE:
            a = FAMILIES[":" in address]
            self.dropped(tcp(a, address, a.server))
            self.dropped(tcp(a, a.server, address, sport=25, dport=40000, flags="SA"), "internet", "home")

    def ends_in_time(self, packet, end):
        """The packet passes until `end` and not after it."""
        while time.time() < end + 1:
            passed = self.passed(packet)
            if time.time() < end - 0.5:
                self.assertTrue(passed, "closed too early")
            time.sleep(0.1)
        self.dropped(packet)

    def test_an_exemption_ends_with_the_service_alive(self):
        until, end = in_seconds(10)
        self.service.command("assign", "brief", "100.64.31.1", "2001:db8:100:3200::/56")
        self.service.command("exempt", "grant", "brief", "--until", until, *REASON)
        self.passes(tcp(FAMILIES[1], "2001:db8:100:3200::1", FAMILIES[1].server))
        self.ends_in_time(tcp(V4, "100.64.31.1", V4.server), end)
        self.dropped(tcp(FAMILIES[1], "2001:db8:100:3200::1", FAMILIES[1].server))

    def test_an_exemption_ends_with_the_service_killed(self):
        until, end = in_seconds(10)
        self.service.command("assign", "orphan", "100.64.32.1", "2001:db8:100:3300::/56")
        self.service.command("exempt", "grant", "orphan", "--until", until, *REASON)
        self.service.kill()
        self.passes(tcp(FAMILIES[1], "2001:db8:100:3300::1", FAMILIES[1].server))
        self.ends_in_time(tcp(V4, "100.64.32.1", V4.server), end)
        self.dropped(tcp(FAMILIES[1], "2001:db8:100:3300::1", FAMILIES[1].server))

    def test_an_assignment_that_ends_takes_the_exemption_along(self):
        until, end = in_seconds(10)
        self.service.command("assign", "guest", "100.64.33.1", "--until", until)
        self.service.command("exempt", "grant", "guest", *REASON)
        self.ends_in_time(tcp(V4, "100.64.33.1", V4.server), end)

    def test_a_renewed_exemption_does_not_end_at_its_old_time(self):
        self.service.command("assign", "renewer", "100.64.34.1")
        until, end = in_seconds(8)  # an emulated machine needs some for the commands
        self.service.command("exempt", "grant", "renewer", "--until", until, *REASON)
        self.service.command("exempt", "renew", "renewer", "--for", "1h", *REASON)
        while time.time() < end + 1:
            self.assertTrue(self.passed(tcp(V4, "100.64.34.1", V4.server)))
            time.sleep(0.1)

    def test_a_change_of_a_pool_holds_for_open_sessions_too(self):
        for a, pool in zip(FAMILIES, ("100.66.0.0/16", "2001:db8:150::/44")):
            with self.subTest(family=a.family), \
                    Session(self.network, "home", a.observe, "internet", a.server) as session:
                self.service.command("pool", "set", pool, "--action", "drop")
                self.service.enforced(lambda a=a: not self.passed(tcp(a, a.observe, a.server)), "pool set to drop")
                self.is_cut(session, a.observe, a.server)
                self.service.command("pool", "set", pool, "--action", "observe", "--confirm")
                self.goes_on(session)

    def test_attempts_of_an_observed_customer_are_listed(self):
        self.service.command("assign", "watched", "100.66.3.7", "2001:db8:150:300::/56")
        for a in FAMILIES:
            Session(self.network, "home", a.observe, "internet", a.server).close()

        def both_listed():
            items = self.service.json("attempts", "--since", "1h")["items"]
            return any(item["customer"] == "watched" and item["attempts"] >= 2 for item in items)
        self.service.enforced(both_listed, "attempts of 'watched'")


if __name__ == "__main__":
    unittest.main()
