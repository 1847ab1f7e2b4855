"""Random frames between all who are there, against a plain reading of the policy: whatever combination of line, source,
destination, ports and shape, the frame arrives exactly when the reading says so."""

import ipaddress
import random
import unittest

from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, PadN
from scapy.packet import Raw

from network import FAMILIES
from packet_case import PacketCase, numbers
from reading import Reading
from seed import printed_seed
from service import POOLS, RELAYS

EXPERTS = ("100.64.7.7", "2001:db8:100:700::/56", "100.70.7.7", "2001:db8:170:700::/56")
MORE = {4: ("100.64.9.9", "100.64.9.10", "100.64.8.3", "100.67.5.7", "100.71.0.9", "100.64.7.8", "100.64.0.26"),
        6: ("2001:db8:100:900::99", "2001:db8:100:900::98", "2001:db8:100:800::3", "2001:db8:160:5::7",
            "2001:db8:171::9", "2001:db8:100:7ff::1", "2001:db8:100:800::", "2001:db8:100::26")}


class Shapes:
    """Ways to wrap a segment. Each gives a packet, whether it begins a TCP segment, and whether its ports show."""

    def __init__(self, dice):
        self.dice = dice

    def plain(self, packet, segment):
        return packet / segment, True, True

    def udp(self, packet, segment):
        return packet / UDP(sport=segment.sport, dport=segment.dport) / Raw(bytes(segment)), False, True

    def later(self, packet, segment):
        offset = self.dice.choice((2, 3, 100))
        return self.fragment(packet, bytes(segment) + bytes(8), offset, self.dice.choice((0, 1))), False, True

    def first(self, packet, segment):
        return self.fragment(packet, bytes(segment)[:self.dice.choice((8, 16))] + bytes(8), 0, 1), True, True

    def hidden(self, packet, segment):
        if packet.version == 4:
            return self.fragment(packet, bytes(segment) + bytes(4), 1, self.dice.choice((0, 1))), True, False
        options = bytes([6, 0, 1, 4, 0, 0, 0, 0])
        return packet / IPv6ExtHdrFragment(nh=60, m=1, id=next(numbers)) / Raw(options), True, False

    def wrapped(self, packet, segment):
        if packet.version == 4:
            return self.plain(packet, segment)
        headers = [IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))]),
                   IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(12))]), IPv6ExtHdrFragment(id=next(numbers))]
        for header in headers[self.dice.randrange(3):]:
            packet = packet / header
        return packet / segment, True, True

    @staticmethod
    def fragment(packet, data, offset, more):
        if packet.version == 4:
            packet.proto, packet.frag, packet.flags, packet.id = 6, offset, more, next(numbers) & 0xffff
            return packet / Raw(data)
        return packet / IPv6ExtHdrFragment(nh=6, offset=offset, m=more, id=next(numbers)) / Raw(data)


class RandomFrames(PacketCase):
    frames = 4000

    def test_frames_arrive_exactly_when_the_policy_says_so(self):
        seed = printed_seed()
        dice = random.Random(seed)
        shapes = Shapes(dice)
        reading = Reading(self.network.lines, ("home", "street"), RELAYS, EXPERTS,
                          [(text, action) for action, texts in POOLS.items() for text in texts])
        wraps = (shapes.plain, shapes.udp, shapes.later, shapes.first, shapes.hidden, shapes.wrapped)
        verdicts = {False: 0, True: 0}
        for _ in range(self.frames):
            a = dice.choice(FAMILIES)
            everybody = [value for name, value in vars(a).items() if name != "family"] + list(MORE[a.family])
            source, destination = dice.sample(everybody, 2)
            line = dice.choice(("home", "street", "office", "internet"))
            to = reading.line_of(ipaddress.ip_address(destination))
            if to == line:
                continue
            sport, dport = dice.choice((25, 25, 40000, 587)), dice.choice((25, 25, 40000, 465))
            segment = TCP(sport=sport, dport=dport, flags=dice.choice(("S", "SA", "A", "PA", "F")), seq=next(numbers))
            packet, begins, shown = dice.choice(wraps)(a.packet(source, destination), segment)
            expected = not begins or reading.passes(
                ipaddress.ip_address(source), ipaddress.ip_address(destination), line,
                not shown or dport == 25, not shown or sport == 25)
            arrived = self.network.inject(packet, line, to).arrived
            self.assertEqual(arrived, expected, f"SMTPFENCE_SEED={seed}: from {line} to {to}: {packet!r}")
            verdicts[arrived] += 1
        print(f"{verdicts[True]} passed, {verdicts[False]} stopped, as the policy says")
        self.assertGreater(min(verdicts.values()), self.frames // 10)


if __name__ == "__main__":
    unittest.main()
