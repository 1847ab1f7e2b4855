"""What goes over the router while it churns, and who counts it: two senders that are not the router's, and as
witnesses nftables counters and tcpdump in the namespaces behind it.

Everybody is told apart by a port: never-exempt sources send from 41000, churned ones from 42000, and what must always
pass has a port from 50000 on at the consumer's end. Each segment of the last kind is numbered, so that each missing
one is found.
"""

import ipaddress
import json
import os
import signal
import socket
import struct
import subprocess
import time
from typing import NamedTuple

from network import ALL_CPUS, Network, PATIENCE, V4

SENDER = os.environ.get("FLOOD_SENDER", "")
FOREIGN = {4: "198.51.100.250", 6: "2001:db8:f::250"}
RELAY = {4: "203.0.113.77", 6: "2001:db8:ffff::77"}
NEVER, CHURNED, LEGITIMATE = 41000, 42000, 50000

NEVER_EXEMPT = ([f"100.64.{net}.{host}" for net in (1, 2, 3) for host in range(1, 9)] + ["198.18.1.9"] +
                [f"2001:db8:100:{net:x}::{host:x}" for net in (1, 2, 3) for host in range(1, 9)])
ALWAYS_EXEMPT = {"100.64.7.1": "100.64.7.1", "100.64.7.70": "100.64.7.64/28",
                 "2001:db8:100:700::1": "2001:db8:100:700::/56", "2001:db8:100:810::1": "2001:db8:100:810::/64"}
TOGGLED = {f"toggled{n}": (f"100.64.16.{n}", f"2001:db8:100:16{n:02x}::1") for n in range(1, 5)}

QUEUE = 4000  # more than net.core.netdev_max_backlog, for both hops
IN_FLIGHT = 0.05  # seconds in which a queue that nobody fills is empty
CAPTURE_DELAY = 2.5  # seconds that a packet may wait in the kernel until tcpdump gets it


class Pace(NamedTuple):
    """Microseconds between two segments of the flood (0: as fast as the machine does), and between two that must pass,
    in either direction; seconds between two commands; how long a command waits until it's enforced."""
    flood: int
    legitimate: int
    commands: float
    wait: str


FAST, CALM = Pace(0, 1500, 0.01, "3s"), Pace(4000, 20000, 0.3, "20s")


def state_of(pid):
    """The letter that the kernel has for it: R, S, T, ..."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()[0]


def version(address):
    return ipaddress.ip_address(address).version


def flood_flows():
    flows = [f"{source} {FOREIGN[version(source)]} {NEVER} 25" for source in NEVER_EXEMPT]
    return flows + [f"{source} {FOREIGN[version(source)]} {CHURNED} 25" for pair in TOGGLED.values() for source in pair]


def legitimate_flows():
    """From the consumers to the internet, and back."""
    out, back = [], []
    for source in ALWAYS_EXEMPT:
        out.append((source, FOREIGN[version(source)], 25))
        back.append((FOREIGN[version(source)], source))
    for source in ("100.64.1.1", "2001:db8:100:1::1"):
        out += [(source, RELAY[version(source)], 25), (source, FOREIGN[version(source)], 587),
                (source, FOREIGN[version(source)], 443)]
        back.append((RELAY[version(source)], source))
    return ([f"{source} {to} {LEGITIMATE} {port}" for source, to, port in out],
            [f"{server} {to} 25 {LEGITIMATE}" for server, to in back])


class Sender:
    """The sending program, behind one line of the router."""

    def __init__(self, network, line, flows, pace, cpu, seconds, path):
        self.flows, self.path = flows, path
        where = network.lines[line]
        self.process = where.namespace.start(
            SENDER, "line", where.own_mac, where.router_mac, str(cpu), str(pace), str(seconds), path,
            stdin=subprocess.PIPE)
        self.process.stdin.write("\n".join(flows) + "\n")
        self.process.stdin.close()
        deadline = time.monotonic() + 10
        while self.sent() == 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the sender does not send")
            time.sleep(0.01)

    def sent(self):
        """Segments by now; the next one has this number."""
        if not os.path.exists(self.path) or os.path.getsize(self.path) < 8:
            return 0
        with open(self.path, "rb") as file:
            return struct.unpack("=Q", file.read(8))[0]

    def check(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"a sender ended early with {self.process.returncode}")

    def end(self):
        self.process.kill()
        self.process.wait()


class Capture:
    """tcpdump at the far end of a line."""

    def __init__(self, namespace, path, words):
        self.path = path
        self.process = namespace.start("tcpdump", "-i", "line", "-Q", "in", "-n", "-s", "96", "-B", "65536", "-U",
                                       "-Z", "root", "-w", path, words, stderr=subprocess.PIPE)
        for line in self.process.stderr:
            if "listening on" in line:
                return
        raise RuntimeError("tcpdump did not start")

    def end(self):
        """Ends it; a witness that did not see everything is none."""
        self.process.terminate()
        said = self.process.stderr.read()
        self.process.wait()
        if "\n0 packets dropped by kernel" not in said:
            raise RuntimeError(f"tcpdump lost packets, so that it can't bear witness:\n{said}")

    def packets(self):
        """Time and sequence number of each."""
        with open(self.path, "rb") as file:
            data = file.read()
        at = 24
        while at + 16 <= len(data):
            seconds, micros, length = struct.unpack_from("=III", data, at)
            frame = at + 16
            if frame + length > len(data):
                return
            header = 40 if data[frame + 12:frame + 14] == b"\x86\xdd" else (data[frame + 14] & 15) * 4
            yield seconds + micros / 1e6, struct.unpack_from("!I", data, frame + 14 + header + 4)[0]
            at = frame + length


class Flood:
    """Network, senders and witnesses. `seconds` bounds the senders, whatever becomes of the rig."""

    def __init__(self, directory, seconds, pace=FAST):
        self.network = Network()
        self.directory, self.seconds, self.pace = directory, seconds, pace
        self.senders, self.captures = {}, {}
        churned = {family: ", ".join(pair[family == 6] for pair in TOGGLED.values()) for family in (4, 6)}
        self.network["internet"].nft("-f", "-", input=f"""table inet witness {{
            counter never {{ }}
            set churned4 {{ type ipv4_addr; counter; elements = {{ {churned[4]} }} }}
            set churned6 {{ type ipv6_addr; counter; elements = {{ {churned[6]} }} }}
            chain seen {{ type filter hook prerouting priority raw; policy accept;
                tcp sport {NEVER} counter name never
                tcp sport {CHURNED} ip saddr @churned4
                tcp sport {CHURNED} ip6 saddr @churned6
            }}
        }}""")

    def start(self):
        """Legitimate traffic gets a CPU of its own: the kernel's queue between two interfaces is one CPU's, and what
        the flood pushes out of it would be counted against the router."""
        internet, home = self.network["internet"], self.network["home"]
        self.captures = {
            "never": Capture(internet, f"{self.directory}/never.pcap", f"tcp src port {NEVER}"),
            "out": Capture(internet, f"{self.directory}/out.pcap", f"tcp src port {LEGITIMATE}"),
            "back": Capture(home, f"{self.directory}/back.pcap", f"tcp dst port {LEGITIMATE} and tcp src port 25")}
        out, back = legitimate_flows()
        first, *others = sorted(ALL_CPUS)
        calm = others[0] if others else first
        for name, line, flows, pace, cpu in (("out", "home", out, self.pace.legitimate, calm),
                                             ("back", "internet", back, self.pace.legitimate, calm),
                                             ("flood", "home", flood_flows(), self.pace.flood, first)):
            self.senders[name] = Sender(self.network, line, flows, pace, cpu, self.seconds,
                                        f"{self.directory}/{name}.count")
        for name in ("out", "back"):
            os.setpriority(os.PRIO_PROCESS, self.senders[name].process.pid, -10)

    def sent(self):
        for sender in self.senders.values():
            sender.check()
        return {name: sender.sent() for name, sender in self.senders.items()}

    def pause(self):
        """On return it has stopped: in the middle of a batch it does so only at the batch's end."""
        flood = self.senders["flood"].process
        flood.send_signal(signal.SIGSTOP)
        self.wait_until(lambda: state_of(flood.pid) == "T", "the flood does not stop")
        time.sleep(IN_FLIGHT)

    def resume(self):
        self.senders["flood"].process.send_signal(signal.SIGCONT)

    def drain(self):
        """Waits until what was on its way has arrived: the kernel's queue between two interfaces holds fewer segments,
        and they are first in, first out. A flood at a pace would take long for that: there a datagram behind it
        tells."""
        if self.pace.flood:
            self.send_behind()
            return
        flood = self.senders["flood"]
        enough = flood.sent() + QUEUE
        self.wait_until(lambda: flood.sent() >= enough, "the flood stands still")

    def send_behind(self):
        """On the flood's CPU, whose queue it shares; returns when it has arrived at the far end."""
        with self.network["internet"]:
            far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with self.network["home"]:
            near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with far, near:
            far.bind((V4.server, 0))
            far.settimeout(PATIENCE)
            before = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {min(ALL_CPUS)})
            near.sendto(b"behind", far.getsockname())
            os.sched_setaffinity(0, before)
            far.recv(16)

    @staticmethod
    def wait_until(condition, otherwise):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(otherwise)
            time.sleep(0.001)

    def leaked(self):
        listing = self.network["internet"].nft("-j", "list", "counter", "inet", "witness", "never")
        return next(item["counter"]["packets"] for item in json.loads(listing)["nftables"] if "counter" in item)

    def churned(self):
        """Segments that arrived, by churned source."""
        listing = self.network["internet"].nft("-j", "list", "table", "inet", "witness")
        sets = [item["set"] for item in json.loads(listing)["nftables"] if "set" in item]
        return {item["elem"]["val"]: item["elem"]["counter"]["packets"] for one in sets for item in one["elem"]}

    def missing(self, name):
        """Numbers of segments that were sent and did not arrive, and the flow of each. After end()."""
        arrived = {number for _, number in self.captures[name].packets()}
        sender = self.senders[name]
        return {number: sender.flows[number % len(sender.flows)]
                for number in range(sender.sent()) if number & 0xffffffff not in arrived}

    def end(self):
        for sender in self.senders.values():
            sender.end()
        time.sleep(CAPTURE_DELAY)
        for capture in self.captures.values():
            capture.end()

    def close(self):
        for sender in self.senders.values():
            sender.process.kill()
        for capture in self.captures.values():
            capture.process.kill()
        self.network.close()
