"""Source addresses on subscriber interfaces: whatever a line claims to be, port 25 is open only to what the router
itself would route back to that line."""

import unittest

from network import FAMILIES
from packet_case import PacketCase, tcp


class Sources(PacketCase):
    def test_a_source_outside_every_pool_is_dropped(self):
        for a in FAMILIES:
            for source in (a.stray, a.alien, a.server, a.office):
                self.dropped(tcp(a, source, a.server if source != a.server else a.alien))
                self.dropped(tcp(a, source, a.alien if source != a.alien else a.server), "street")

    def test_a_source_outside_every_pool_still_reaches_relays_and_other_ports(self):
        for a in FAMILIES:
            self.passes(tcp(a, a.stray, a.relay))
            self.passes(tcp(a, a.relay, a.stray, sport=25, dport=40000, flags="SA"), "internet", "home")
            for port in (587, 465, 80):
                self.passes(tcp(a, a.stray, a.server, dport=port))

    def test_towards_a_line_outside_every_pool_port_25_is_dropped(self):
        for a in FAMILIES:
            self.dropped(tcp(a, a.server, a.stray, sport=25, dport=40000, flags="SA"), "internet", "home")

    def test_an_exempt_source_counts_only_on_its_own_line(self):
        for a in FAMILIES:
            self.passes(tcp(a, a.expert, a.server))
            self.passes(tcp(a, a.neighbour_expert, a.server), "street")
            self.dropped(tcp(a, a.expert, a.server), "street")
            self.dropped(tcp(a, a.neighbour_expert, a.server))

    def test_a_relay_source_counts_only_where_the_relay_is(self):
        for a in FAMILIES:
            self.dropped(tcp(a, a.relay, a.server))
            self.dropped(tcp(a, a.relay, a.server), "street")
            self.passes(tcp(a, a.near_relay, a.server))
            self.dropped(tcp(a, a.near_relay, a.server), "street")

    def test_a_source_of_a_milder_pool_counts_only_on_its_own_line(self):
        for a in FAMILIES:
            for source in (a.passing, a.observe, a.reject):
                self.dropped(tcp(a, source, a.server), "street")

    def test_other_interfaces_know_only_pools(self):
        for a, fenced in zip(FAMILIES, ("100.71.0.9", "2001:db8:171::9")):
            self.passes(tcp(a, a.office, a.server), "office")
            self.passes(tcp(a, a.server, a.office, sport=25, dport=40000, flags="SA"), "internet", "office")
            self.passes(tcp(a, a.alien, a.server), "office")
            self.dropped(tcp(a, fenced, a.server), "office")
            self.dropped(tcp(a, a.server, fenced, sport=25, dport=40000, flags="SA"), "internet", "office")


class RejectedSources(PacketCase):
    action = "reject"

    def test_a_source_outside_every_pool_is_rejected(self):
        for a in FAMILIES:
            self.rejected(tcp(a, a.stray, a.server))
            self.rejected(tcp(a, a.server, a.stray, sport=25, dport=40000, flags="SA"), "internet", "home")
            self.dropped(tcp(a, a.drop, a.server))


class ObservedSources(PacketCase):
    action = "observe"

    def test_a_source_outside_every_pool_passes_and_pools_decide_as_before(self):
        for a in FAMILIES:
            self.passes(tcp(a, a.stray, a.server))
            self.passes(tcp(a, a.server, a.stray, sport=25, dport=40000, flags="SA"), "internet", "home")
            self.dropped(tcp(a, a.drop, a.server))
            self.rejected(tcp(a, a.reject, a.server))


class OnlyPools(PacketCase):
    subscriber = ()

    def test_without_subscriber_interfaces_only_pools_decide(self):
        for a in FAMILIES:
            self.passes(tcp(a, a.stray, a.server))
            self.passes(tcp(a, a.server, a.stray, sport=25, dport=40000, flags="SA"), "internet", "home")
            self.dropped(tcp(a, a.drop, a.server))
            self.rejected(tcp(a, a.reject, a.server))
            self.passes(tcp(a, a.expert, a.server))


if __name__ == "__main__":
    unittest.main()
