"""The verdict that a packet gets: every action, both families, both directions, and what must stay untouched."""

import itertools
import json
import unittest

from scapy.layers.inet import UDP

from network import FAMILIES, Session, receive
from packet_case import PacketCase, tcp

def counted(network, source):
    """How often the kernel saw a source attempt."""
    name = "attempts6" if ":" in source else "attempts4"
    listing = json.loads(network.router.nft("-j", "list", "set", "inet", "smtpfence", name))
    elements = next(item["set"] for item in listing["nftables"] if "set" in item).get("elem", [])
    return sum(element["elem"]["counter"]["packets"] for element in elements if element["elem"]["val"] == source)


class Verdicts(PacketCase):
    def test_from_a_line_to_port_25_each_action_holds_for_every_segment(self):
        for a, flags in itertools.product(FAMILIES, ("S", "SA", "A", "PA", "FA", "", "FPU", "SF")):
            self.dropped(tcp(a, a.drop, a.server, flags=flags))
            self.rejected(tcp(a, a.reject, a.server, flags=flags))
            self.passes(tcp(a, a.observe, a.server, flags=flags))
            self.passes(tcp(a, a.passing, a.server, flags=flags))
            self.passes(tcp(a, a.expert, a.server, flags=flags))

    def test_from_port_25_towards_a_line_each_action_holds_for_every_segment(self):
        for a, flags in itertools.product(FAMILIES, ("S", "SA", "A", "PA", "FA", "", "FPU", "SF")):
            self.dropped(tcp(a, a.server, a.drop, sport=25, dport=40000, flags=flags), "internet", "home")
            self.rejected(tcp(a, a.server, a.reject, sport=25, dport=40000, flags=flags), "internet", "home")
            self.passes(tcp(a, a.server, a.observe, sport=25, dport=40000, flags=flags), "internet", "home")
            self.passes(tcp(a, a.server, a.passing, sport=25, dport=40000, flags=flags), "internet", "home")
            self.passes(tcp(a, a.server, a.expert, sport=25, dport=40000, flags=flags), "internet", "home")

    def test_a_reset_is_never_answered_with_a_reset(self):
        for a in FAMILIES:
            self.dropped(tcp(a, a.reject, a.server, flags="R"))
            self.dropped(tcp(a, a.server, a.reject, sport=25, dport=40000, flags="RA"), "internet", "home")

    def test_relays_are_reached_from_every_line_and_answer(self):
        for a in FAMILIES:
            for line in (a.drop, a.reject, a.observe, a.passing, a.expert):
                self.passes(tcp(a, line, a.relay))
                self.passes(tcp(a, a.relay, line, sport=25, dport=40000, flags="SA"), "internet", "home")

    def test_a_relay_inside_a_pool_sends_and_is_answered(self):
        for a in FAMILIES:
            self.passes(tcp(a, a.near_relay, a.server))
            self.passes(tcp(a, a.server, a.near_relay, sport=25, dport=40000, flags="SA"), "internet", "home")
            self.passes(tcp(a, a.neighbour, a.near_relay), "street", "home")
            self.passes(tcp(a, a.near_relay, a.neighbour, sport=25, dport=40000, flags="SA"), "home", "street")

    def test_a_host_beside_the_relay_is_no_relay(self):
        for a in FAMILIES:
            self.dropped(tcp(a, a.drop, a.alien))
            self.dropped(tcp(a, a.alien, a.drop, sport=25, dport=40000, flags="SA"), "internet", "home")

    def test_between_two_lines_the_same_rules_hold(self):
        for a in FAMILIES:
            self.dropped(tcp(a, a.drop, a.neighbour), "home", "street")
            self.dropped(tcp(a, a.neighbour, a.drop, sport=25, dport=40000, flags="SA"), "street", "home")
            self.dropped(tcp(a, a.expert, a.neighbour, sport=25, dport=40000, flags="SA"), "home", "street")
            self.passes(tcp(a, a.expert, a.neighbour), "home", "street")

    def test_port_25_at_both_ends_is_judged_for_both_ends(self):
        for a in FAMILIES:
            for flags in ("S", "PA"):
                self.dropped(tcp(a, a.drop, a.server, sport=25, flags=flags))
                self.rejected(tcp(a, a.reject, a.server, sport=25, flags=flags))
                self.passes(tcp(a, a.expert, a.server, sport=25, flags=flags))
                self.dropped(tcp(a, a.server, a.drop, sport=25, flags=flags), "internet", "home")
                self.rejected(tcp(a, a.server, a.reject, sport=25, flags=flags), "internet", "home")
                self.passes(tcp(a, a.server, a.expert, sport=25, flags=flags), "internet", "home")
                self.passes(tcp(a, a.drop, a.relay, sport=25, flags=flags))
                self.passes(tcp(a, a.relay, a.drop, sport=25, flags=flags), "internet", "home")
                self.dropped(tcp(a, a.expert, a.neighbour, sport=25, flags=flags), "home", "street")
                self.dropped(tcp(a, a.passing, a.neighbour, sport=25, flags=flags), "home", "street")

    def test_port_25_at_both_ends_an_observed_line_opens_no_fenced_one(self):
        for a in FAMILIES:
            self.dropped(tcp(a, a.observe, a.neighbour, sport=25), "home", "street")
            self.dropped(tcp(a, a.neighbour, a.observe, sport=25), "street", "home")

    def test_other_tcp_ports_are_untouched(self):
        for a, port in itertools.product(FAMILIES, (587, 465, 80, 24, 26, 2525, 6400)):
            for line in (a.drop, a.reject, a.expert):
                self.passes(tcp(a, line, a.server, dport=port))
                self.passes(tcp(a, a.server, line, sport=port, dport=40000, flags="SA"), "internet", "home")

    def test_a_mail_server_on_a_line_is_still_called_from_outside(self):
        for a in FAMILIES:
            self.passes(tcp(a, a.server, a.drop), "internet", "home")
            self.passes(tcp(a, a.drop, a.server, sport=25, dport=40000, flags="SA"))

    def test_udp_on_port_25_is_untouched(self):
        for a in FAMILIES:
            self.passes(a.packet(a.drop, a.server) / UDP(sport=40000, dport=25) / b"1")
            self.passes(a.packet(a.drop, a.server) / UDP(sport=25, dport=25) / b"2")
            self.passes(a.packet(a.server, a.drop) / UDP(sport=25, dport=40000) / b"3", "internet", "home")

    def test_in_nested_pools_the_longest_prefix_decides(self):
        self.rejected(tcp(FAMILIES[0], "100.64.8.1", FAMILIES[0].server))
        self.passes(tcp(FAMILIES[0], "100.64.9.8", FAMILIES[0].server))
        self.dropped(tcp(FAMILIES[0], "100.64.9.9", FAMILIES[0].server))
        self.passes(tcp(FAMILIES[0], "100.64.9.10", FAMILIES[0].server))
        self.dropped(tcp(FAMILIES[0], "100.67.5.1", FAMILIES[0].server))
        self.passes(tcp(FAMILIES[0], "100.67.6.0", FAMILIES[0].server))
        self.dropped(tcp(FAMILIES[0], "100.64.255.255", FAMILIES[0].server))
        self.rejected(tcp(FAMILIES[1], "2001:db8:100:8ff::1", FAMILIES[1].server))
        self.passes(tcp(FAMILIES[1], "2001:db8:100:900::98", FAMILIES[1].server))
        self.dropped(tcp(FAMILIES[1], "2001:db8:100:900::99", FAMILIES[1].server))
        self.dropped(tcp(FAMILIES[1], "2001:db8:160:5:ffff::1", FAMILIES[1].server))
        self.passes(tcp(FAMILIES[1], "2001:db8:160:6::1", FAMILIES[1].server))
        self.dropped(tcp(FAMILIES[1], "2001:db8:1ff:ffff:ffff:ffff:ffff:ffff", FAMILIES[1].server))

    def test_towards_nested_pools_the_longest_prefix_decides(self):
        for a, fenced, free in ((FAMILIES[0], "100.64.9.9", "100.64.9.10"),
                                (FAMILIES[1], "2001:db8:100:900::99", "2001:db8:100:900::98")):
            self.dropped(tcp(a, a.server, fenced, sport=25, dport=40000, flags="SA"), "internet", "home")
            self.passes(tcp(a, a.server, free, sport=25, dport=40000, flags="SA"), "internet", "home")

    def test_every_address_of_an_exempt_prefix_is_exempt_and_no_other(self):
        a = FAMILIES[1]
        self.passes(tcp(a, "2001:db8:100:7ff:ffff:ffff:ffff:ffff", a.server))
        self.dropped(tcp(a, "2001:db8:100:6ff:ffff:ffff:ffff:ffff", a.server))
        self.dropped(tcp(FAMILIES[0], "100.64.7.6", FAMILIES[0].server))
        self.dropped(tcp(FAMILIES[0], "100.64.7.8", FAMILIES[0].server))

    def test_attempts_are_counted_per_source_for_fenced_and_observed_lines_only(self):
        hosts = {4: ("100.64.90.1", "100.65.90.1", "100.66.90.1", "100.67.90.1"),
                 6: ("2001:db8:100:9000::1", "2001:db8:140:9000::1", "2001:db8:150:9000::1", "2001:db8:160:9000::1")}
        for a in FAMILIES:
            drop, reject, observe, passing = hosts[a.family]
            for number in range(3):
                self.dropped(tcp(a, drop, a.server, sport=50000 + number))
                self.rejected(tcp(a, reject, a.server, sport=50000 + number))
                self.passes(tcp(a, observe, a.server, sport=50000 + number))
                self.passes(tcp(a, passing, a.server, sport=50000 + number))
                self.passes(tcp(a, a.expert, a.server, sport=50000 + number))
            self.passes(tcp(a, observe, a.relay))
            self.passes(tcp(a, observe, a.server, dport=587))
            for source, packets in ((drop, 3), (reject, 3), (observe, 3), (passing, 0), (a.expert, 0)):
                with self.subTest(source=source):
                    self.assertEqual(counted(self.network, source), packets)

    def test_explain_says_what_packets_get(self):
        for a in FAMILIES:
            for line, verdict in ((a.drop, "drop"), (a.reject, "reject"), (a.observe, "observe"), (a.passing, "pass"),
                                  (a.expert, "pass"), (a.near_relay, "pass")):
                for arguments, expected in (((line,), verdict), ((line, "--to", a.server), verdict),
                                            ((line, "--to", a.relay), "pass")):
                    with self.subTest(arguments):
                        answer = self.service.json("explain", *arguments)
                        self.assertEqual((answer["verdict"], answer["kernel_agrees"]), (expected, True))

    def test_real_clients_get_what_their_line_may(self):
        for a in FAMILIES:
            for line, server, port in ((a.drop, a.relay, 25), (a.reject, a.relay, 25), (a.expert, a.server, 25),
                                       (a.observe, a.server, 25), (a.passing, a.server, 25), (a.drop, a.server, 587),
                                       (a.drop, a.server, 465), (a.drop, a.server, 80)):
                with self.subTest(line=line, server=server, port=port), \
                        Session(self.network, "home", line, "internet", server, port) as session:
                    session.server.sendall(b"220 mail\r\n")
                    self.assertEqual(receive(session.client, 10), b"220 mail\r\n")
                    session.client.sendall(b"EHLO line\r\n")
                    self.assertEqual(receive(session.server, 11), b"EHLO line\r\n")

    def test_a_real_client_on_a_rejecting_line_is_refused_at_once(self):
        for a in FAMILIES:
            with self.subTest(family=a.family), self.assertRaises(ConnectionRefusedError):
                Session(self.network, "home", a.reject, "internet", a.server)


if __name__ == "__main__":
    unittest.main()
