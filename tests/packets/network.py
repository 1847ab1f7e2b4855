"""Customers - border router - internet, as network namespaces of this process.

A namespace is held only by a file descriptor here (and by programs that were started inside), so that it ends with the
process, however that ends. Frames are injected and captured on packet sockets; whether something arrived is decided by
a sentinel sent right behind it on the same path, never by waiting.

    network = Network()
    outcome = network.inject(IP(src="100.64.3.7", dst="198.51.100.25") / TCP(dport=25), "home", "internet")
    outcome.arrived, outcome.resets
"""

import ctypes
import itertools
import os
import select
import socket
import struct
import subprocess
import time

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from children import ALL_CPUS, die_with_parent

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
SO_RCVBUFFORCE = 33
PACKET_OUTGOING = 4
ETH_P_ALL = 3

# What a program may need on a loaded machine (an emulated one sets more), and what a frame may; only what is broken
# takes this long.
PATIENCE, FRAME_PATIENCE = float(os.environ.get("SMTPFENCE_PATIENCE", "20")), 5.0

# Hosts on the lines start lower than the router, which tells its own resets from theirs.
ROUTER_HOPS, LINE_HOPS = 64, 32


def _call(result):
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _pin():
    """Frames sent from one CPU pass the veth pairs in the order of sending; from two they may overtake each other."""
    os.sched_setaffinity(0, {sorted(ALL_CPUS)[os.getpid() % len(ALL_CPUS)]})


class Namespace:
    """A network namespace; `with` moves the calling thread into it."""

    def __init__(self):
        outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _call(libc.unshare(CLONE_NEWNET))
            self.descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        finally:
            _call(libc.setns(outside, CLONE_NEWNET))
            os.close(outside)
        self._outside = []
        for name, value in (("ipv4/conf/all/rp_filter", 0), ("ipv4/conf/default/rp_filter", 0),
                            ("ipv6/conf/default/accept_dad", 0), ("ipv6/conf/default/accept_ra", 0)):
            self.set(name, value)
        self.ip("link set lo up")

    def __enter__(self):
        self._outside.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        _call(libc.setns(self.descriptor, CLONE_NEWNET))
        return self

    def __exit__(self, *_):
        outside = self._outside.pop()
        _call(libc.setns(outside, CLONE_NEWNET))
        os.close(outside)

    @property
    def path(self):
        """Names this namespace to a child process."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def set(self, name, value):
        with self, open(f"/proc/sys/net/{name}", "w", encoding="ascii") as file:
            file.write(str(value))

    def run(self, *command, check=True, **options):
        """Runs a program in here to its end. Its output is text; a failure shows it."""
        with self:
            done = subprocess.run(command, text=True, capture_output=True, preexec_fn=die_with_parent, check=False,
                                  timeout=180, **options)
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def start(self, *command, **options):
        """Starts a program in here that runs beside the test."""
        with self:
            return subprocess.Popen(command, text=True, preexec_fn=die_with_parent, **options)

    def ip(self, *commands):
        """Lines for `ip -batch`."""
        self.run("ip", "-batch", "-", input="\n".join(commands) + "\n")

    def nft(self, *arguments, **options):
        return self.run("nft", *arguments, **options).stdout

    def close(self):
        os.close(self.descriptor)


class Wire:
    """The far end of one of the router's interfaces, where frames are sent and captured."""

    def __init__(self, namespace, interface, own_mac, router_mac):
        with namespace:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 28)
            self.socket.bind((interface, ETH_P_ALL))
        self.header = bytes(Ether(src=own_mac, dst=router_mac, type=0x0800))[:12]

    def send(self, packet):
        """An IP packet as bytes or as scapy builds it."""
        raw = bytes(packet)
        self.socket.send(self.header + (b"\x86\xdd" if raw[0] >> 4 == 6 else b"\x08\x00") + raw)

    def next(self, deadline):
        """The next IP packet that came in from the router; None at the deadline."""
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.socket], [], [], left)[0]:
                return None
            frame, address = self.socket.recvfrom(65535)
            if address[2] != PACKET_OUTGOING and frame[12:14] in (b"\x08\x00", b"\x86\xdd"):
                return frame[14:]

    def waiting(self):
        """All packets that have come in by now."""
        packets = []
        while select.select([self.socket], [], [], 0)[0]:
            packet = self.next(time.monotonic() + 0.001)
            if packet is not None:
                packets.append(packet)
        return packets


def parsed(raw):
    return IPv6(raw) if raw[0] >> 4 == 6 else IP(raw)


def hops(packet):
    return packet.hlim if IPv6 in packet else packet.ttl


def content(raw):
    """What a router leaves alone of an IP packet: addresses and everything behind the header."""
    if raw[0] >> 4 == 6:
        return raw[8:]
    header = (raw[0] & 15) * 4
    return raw[12:20] + raw[header:struct.unpack("!H", raw[2:4])[0]]


class Outcome:
    """What became of injected packets: which came out at the far end, and what came back."""

    def __init__(self, sent, far, near):
        self.far, self.near = far, near
        contents = {content(raw) for raw in far}
        self.each = [content(bytes(packet)) in contents for packet in sent]

    @property
    def arrived(self):
        return any(self.each)

    @property
    def resets(self):
        """The router's own."""
        return [packet for packet in map(parsed, self.near)
                if TCP in packet and "R" in packet[TCP].flags and hops(packet) == ROUTER_HOPS]


class Line:
    """One interface of the router and the namespace behind it."""

    def __init__(self, number, interface, prefixes, addresses):
        self.interface, self.prefixes, self.addresses = interface, prefixes, addresses
        self.router_mac, self.own_mac = f"02:00:00:00:{number:02x}:01", f"02:00:00:00:{number:02x}:02"
        self.router4, self.own4 = f"192.0.2.{4 * number + 1}", f"192.0.2.{4 * number + 2}"
        self.router6, self.own6 = f"2001:db8:0:{number}::1", f"2001:db8:0:{number}::2"
        self.namespace = self.wire = None

    def connect(self, router):
        self.namespace = Namespace()
        for name in ("ipv4/ip_default_ttl", "ipv6/conf/default/hop_limit"):
            self.namespace.set(name, LINE_HOPS)
        router.ip(f"link add {self.interface} address {self.router_mac} type veth peer name line "
                  f"address {self.own_mac} netns {self.namespace.path}")
        self.settle(router, "line")

    def settle(self, router, end):
        """Addresses and routes on both ends of the link; the line's own is named `end`."""
        self.namespace.ip(*self._end(end, self.own4, self.own6, self.router4, self.router6, self.router_mac),
                          f"route replace default via {self.router4}", f"route replace ::/0 via {self.router6}",
                          *[f"addr add {address} dev lo" + (" nodad" if ":" in address else "")
                            for address in self.addresses])
        router.ip(*self._end(self.interface, self.router4, self.router6, self.own4, self.own6, self.own_mac),
                  *[f"route replace {prefix} via "
                    f"{self.own6 if ':' in prefix else self.own4}" for prefix in self.prefixes])
        self.wire = Wire(self.namespace, end, self.own_mac, self.router_mac)

    @staticmethod
    def _end(interface, own4, own6, peer4, peer6, peer_mac):
        return (f"link set {interface} addrgenmode none up", f"addr add {own4}/30 dev {interface}",
                f"addr add {own6}/64 dev {interface} nodad",
                f"neigh replace {peer4} lladdr {peer_mac} dev {interface} nud permanent",
                f"neigh replace {peer6} lladdr {peer_mac} dev {interface} nud permanent")


class Addresses:
    """Who is who in one family."""

    def __init__(self, family, relay, server, alien, pools, lines):
        self.family = family
        self.relay, self.server = relay, server
        self.alien = alien  # behind the upstream, near the relay but none
        self.drop, self.reject, self.observe, self.passing = pools
        self.expert, self.near_relay, self.stray, self.neighbour, self.neighbour_expert, self.office = lines

    def packet(self, source, destination, **fields):
        layer = IP if self.family == 4 else IPv6
        return layer(src=source, dst=destination, **fields)


V4 = Addresses(4, "203.0.113.10", "198.51.100.25", "203.0.113.200",
               ("100.64.3.7", "100.65.3.7", "100.66.3.7", "100.67.3.7"),
               ("100.64.7.7", "100.64.0.25", "198.18.1.9", "100.70.3.7", "100.70.7.7", "198.18.5.9"))
V6 = Addresses(6, "2001:db8:ffff::10", "2001:db8:f::25", "2001:db8:ffff::200",
               ("2001:db8:100:300::7", "2001:db8:140:300::7", "2001:db8:150:300::7", "2001:db8:160:300::7"),
               ("2001:db8:100:700::7", "2001:db8:100::25", "2001:db8:300::9", "2001:db8:170:300::7",
                "2001:db8:170:700::7", "2001:db8:305::9"))
FAMILIES = (V4, V6)


class Network:
    """The router's interfaces: bng0 to `home`, vlan101 to `street`, bng01 to `office`, up0 to `internet`. The
    prefixes behind home and office are wider than the pools: a stray source can be routed back there."""

    def __init__(self):
        _pin()
        self.tokens = itertools.count(1)
        self.router = Namespace()
        for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            self.router.set(name, 1)
        everybody = [address for family in FAMILIES for address in
                     (family.drop, family.reject, family.observe, family.passing, family.expert, family.near_relay)]
        self.lines = {
            "home": Line(0, "bng0", ("100.64.0.0/10", "198.18.1.0/24", "2001:db8:100::/40", "2001:db8:300::/48"),
                         everybody),
            "street": Line(1, "vlan101", ("100.70.0.0/16", "2001:db8:170::/44"),
                           [family.neighbour for family in FAMILIES]),
            "office": Line(2, "bng01", ("100.71.0.0/16", "198.18.5.0/24", "2001:db8:171::/48", "2001:db8:305::/48"),
                           [family.office for family in FAMILIES]),
            "internet": Line(3, "up0", ("default", "::/0"),
                             [address for family in FAMILIES for address in (family.relay, family.server)]),
        }
        for line in self.lines.values():
            line.connect(self.router)
        self.sentinels = {(source, destination): self.sentinel_header(source, destination)
                          for source in self.lines for destination in self.lines if source != destination}

    def __getitem__(self, line):
        """The namespace behind an interface."""
        return self.lines[line].namespace

    def wire(self, line):
        return self.lines[line].wire

    def sentinel(self, source, destination):
        """Sends a packet that no rule stops, and returns all that came in at both ends until it arrived."""
        far = self.wire(destination)
        token = struct.pack("!QQ", os.getpid(), next(self.tokens))
        self.wire(source).send(self.sentinels[source, destination] + token)
        packets, deadline = [], time.monotonic() + FRAME_PATIENCE
        while True:
            packet = far.next(deadline)
            if packet is None:
                raise AssertionError(f"the sentinel from {source} to {destination} did not arrive")
            if packet.endswith(token):
                return packets, self.wire(source).waiting()
            packets.append(packet)

    def sentinel_header(self, source, destination):
        """To an address that is routed to the line and held by nobody there: nothing answers."""
        silent = {"home": "100.127.255.250", "street": "100.70.255.250", "office": "198.18.5.250",
                  "internet": "198.51.100.250"}[destination]
        packet = IP(src=self.lines[source].own4, dst=silent) / UDP(sport=9, dport=9, chksum=0) / bytes(16)
        return bytes(packet)[:-16]

    def inject(self, packets, source, destination):
        """Sends packets into the router from behind one interface and looks what leaves by another."""
        packets = packets if isinstance(packets, (list, tuple)) else [packets]
        for line in self.lines.values():
            line.wire.waiting()
        for packet in packets:
            self.wire(source).send(packet)
        far, near = self.sentinel(source, destination)
        return Outcome(packets, far, near)

    def close(self):
        for line in self.lines.values():
            line.wire.socket.close()
            line.namespace.close()
        self.router.close()


class Session:
    """A real TCP connection; `client` and `server` are its two sockets."""

    def __init__(self, network, source, address, destination, server, port=25):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.listener = listen(network, destination, server, port)
        try:
            with network[source]:
                self.client = socket.socket(family, socket.SOCK_STREAM)
            self.client.settimeout(PATIENCE)
            self.client.bind((address, 0))
            self.client.connect((server, port))
            self.server, _ = self.listener.accept()
            self.server.settimeout(PATIENCE)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for end in ("client", "server", "listener"):
            if hasattr(self, end):
                getattr(self, end).close()


def listen(network, line, address, port):
    """A listening socket behind an interface."""
    with network[line]:
        listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.settimeout(PATIENCE)
    listener.bind((address, port))
    listener.listen(16)
    return listener


def receive(connection, count):
    """Exactly so many bytes."""
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise AssertionError("the connection was closed")
        data += piece
    return data
