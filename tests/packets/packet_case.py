"""What the tests of verdicts share: a network, the service on its router, and three ways to expect."""

import itertools
import unittest

from scapy.layers.inet import TCP

from network import Network
from service import Service

numbers = itertools.count(1)


def tcp(addresses, source, destination, sport=40000, dport=25, flags="S", **fields):
    """A segment like no other: found again by its sequence number."""
    return addresses.packet(source, destination, **fields) / segment(sport, dport, flags)


def segment(sport=40000, dport=25, flags="S"):
    return TCP(sport=sport, dport=dport, flags=flags, seq=next(numbers))


class PacketCase(unittest.TestCase):
    """Packets go from `source` to `destination`, the names of the router's lines."""

    subscriber = ("bng0", "vlan*")
    action = "drop"
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.network = Network()
        cls.addClassCleanup(cls.network.close)
        cls.service = Service(cls.network, subscriber=cls.subscriber, action=cls.action)
        cls.addClassCleanup(cls.service.close)
        cls.service.populate().start()

    def passes(self, packet, source="home", destination="internet"):
        with self.subTest(f"passes from {source}: {packet.summary()}"):
            outcome = self.network.inject(packet, source, destination)
            self.assertTrue(outcome.arrived)
            self.assertEqual(outcome.resets, [])

    def dropped(self, packet, source="home", destination="internet"):
        with self.subTest(f"dropped from {source}: {packet.summary()}"):
            outcome = self.network.inject(packet, source, destination)
            self.assertFalse(outcome.arrived)
            self.assertEqual(outcome.resets, [])

    def rejected(self, packet, source="home", destination="internet"):
        with self.subTest(f"rejected from {source}: {packet.summary()}"):
            outcome = self.network.inject(packet, source, destination)
            self.assertFalse(outcome.arrived)
            self.assertEqual([(reset.src, reset.dst, reset[TCP].sport, reset[TCP].dport) for reset in outcome.resets],
                             [(packet.dst, packet.src, packet[TCP].dport, packet[TCP].sport)])
