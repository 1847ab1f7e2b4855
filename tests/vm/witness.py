"""What stands around the router, outside its machine: a program that plays both its neighbours. It sends from the
subscribers' side and from the internet's without a pause, from before the first boot to the end, and counts what comes
out on the other side. The machine's network cards are pairs of datagram sockets here: what the machine sends waits until
it is read, and never gets lost.

Each kind of packet has a source port of its own; FENCED must never arrive once there is a fence.
"""

import collections
import select
import socket
import struct
import threading
import time

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

PAUSE = 0.002  # seconds between two packets
SIDES = {"bng0": ("52:54:00:00:01:01", "52:54:00:00:01:02"), "inet0": ("52:54:00:00:02:01", "52:54:00:00:02:02")}
FENCED = ("to port 25", "to port 25, IPv6", "from port 25")


def packet(*addresses, port, to):
    network = IPv6 if ":" in addresses[0] else IP
    return network(src=addresses[0], dst=addresses[1]) / TCP(sport=port, dport=to, flags="S")


# Name: which side sends it, the packet, and the port that tells it from the others.
KINDS = {
    "to port 25": ("bng0", packet("100.64.3.7", "198.51.100.25", port=41001, to=25), 41001),
    "to port 25, IPv6": ("bng0", packet("2001:db8:100:700::7", "2001:db8:f::25", port=41002, to=25), 41002),
    "from port 25": ("inet0", packet("198.51.100.25", "100.64.3.7", port=25, to=41003), 41003),
    "exempt, to port 25": ("bng0", packet("100.64.9.1", "198.51.100.25", port=42001, to=25), 42001),
    "exempt, to port 25, IPv6": ("bng0", packet("2001:db8:100:900::1", "2001:db8:f::25", port=42002, to=25), 42002),
    "to the relay": ("bng0", packet("100.64.3.7", "203.0.113.10", port=43001, to=25), 43001),
    "to port 587": ("bng0", packet("100.64.3.7", "198.51.100.25", port=44001, to=587), 44001),
    "to port 587, IPv6": ("bng0", packet("2001:db8:100:700::7", "2001:db8:f::25", port=44002, to=587), 44002),
}
LEGITIMATE = tuple(name for name in KINDS if name not in FENCED)
# Every other packet is a fenced one to port 25 over IPv4: what leaks is seen within two pauses.
ORDER = [name for other in KINDS if other != "to port 25" for name in ("to port 25", other)]


class Side:
    """One of the machine's network cards, from the other end of its cable."""

    def __init__(self, folder, name):
        self.machine, self.here = folder / f"{name}.machine", folder / f"{name}.here"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.here))
        self.socket.setblocking(False)
        self.name, (self.mac, self.neighbour) = name, SIDES[name]

    def frame(self, raw):
        return bytes(Ether(src=self.neighbour, dst=self.mac) / raw)

    def send(self, frame):
        """Whether the machine's card took it; it doesn't while the machine doesn't look."""
        try:
            self.socket.sendto(frame, str(self.machine))
            return True
        except (BlockingIOError, ConnectionRefusedError, FileNotFoundError):
            return False


class Witness:
    def __init__(self, folder):
        self.sides = {name: Side(folder, name) for name in SIDES}
        self.ports = {port: name for name, (_, _, port) in KINDS.items()}
        self.sent = collections.Counter()
        self.seen = {name: [] for name in KINDS}  # when each arrived
        self.ended, self.failures = threading.Event(), []
        loops = [self.send] + [lambda side=side: self.receive(side) for side in self.sides.values()]
        self.threads = [threading.Thread(target=self.run, args=(loop,), daemon=True) for loop in loops]

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def run(self, loop):
        try:
            loop()
        except Exception as error:  # pylint: disable=broad-except
            self.failures.append(error)

    def send(self):
        frames = [(name, self.sides[KINDS[name][0]], self.sides[KINDS[name][0]].frame(KINDS[name][1])) for name in ORDER]
        following = time.monotonic()
        while not self.ended.is_set():
            for name, side, frame in frames:
                self.sent[name] += side.send(frame)
                following = max(following + PAUSE, time.monotonic() - PAUSE)
                time.sleep(max(0.0, following - time.monotonic()))

    def receive(self, side):
        while not self.ended.is_set():
            if not select.select([side.socket], [], [], 0.2)[0]:
                continue
            frame = side.socket.recv(65536)
            name = self.kind(frame)
            if name and KINDS[name][0] != side.name:
                self.seen[name].append(time.monotonic())

    def kind(self, frame):
        """The name of what this frame holds, if it is one of ours."""
        start = {b"\x08\x00": 34, b"\x86\xdd": 54}.get(frame[12:14])
        if start is None or len(frame) < start + 4 or frame[23 if start == 34 else 20] != socket.IPPROTO_TCP:
            return None
        ports = struct.unpack_from("!HH", frame, start)
        return self.ports.get(ports[1] if ports[0] == 25 else ports[0])

    def mark(self):
        """Where everything stands now."""
        if self.failures:
            raise self.failures[0]
        return Mark(time.monotonic(), dict(self.sent), {name: len(times) for name, times in self.seen.items()})

    def since(self, mark):
        now = self.mark()
        return Interval({name: now.sent.get(name, 0) - mark.sent.get(name, 0) for name in KINDS},
                        {name: self.seen[name][mark.seen[name]:now.seen[name]] for name in KINDS})

    def wait(self, names, mark, seconds):
        """Until each of these kinds has arrived again; False when one didn't."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if all(self.since(mark).seen[name] for name in names):
                return True
            time.sleep(0.05)
        return False

    def end(self):
        self.ended.set()
        for thread in self.threads:
            thread.join(10)
        for side in self.sides.values():
            side.socket.close()


Mark = collections.namedtuple("Mark", "time sent seen")


class Interval(collections.namedtuple("Interval", "sent seen")):
    """What was sent and seen between two moments."""

    def count(self, names):
        return sum(len(self.seen[name]) for name in names)

    def taken(self, names):
        return sum(self.sent[name] for name in names)

    def leaked(self):
        return sorted(time for name in FENCED for time in self.seen[name])
