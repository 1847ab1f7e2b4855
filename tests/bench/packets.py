"""The packet path: what a packet costs through routers with and without a table.

Every router is a network namespace of its own, between one that sends and one that receives, so that tables stay as
they are while bench_packets sends on all ways in turn. The receiver's interface has another MAC address than the frames
that the router sends, so that they end there at once; it counts them nevertheless.
"""

import os
import statistics

from namespaces import Namespace
from router import PROGRAM, exempt_address

SENDER = os.path.join(os.path.dirname(PROGRAM), "tests/bench/bench_packets")
CALLS, SOURCES = 100, 4096
# kind, source, destination, source port, port
OTHER = {"udp/443": ("udp", "100.127.0.0", "198.51.100.25", 40000, 443),
         "tcp/443": ("ack", "100.127.0.0", "198.51.100.25", 40000, 443),
         "tcp/443 from the server": ("ack", "198.51.100.25", "100.127.0.0", 443, 40000),
         "tcp/443, IPv6": ("ack", "2001:db8:100::", "2001:db8:f::25", 40000, 443)}
SMTP = {"tcp/25": ("syn", "100.127.0.0", "198.51.100.25", 40000, 25)}


class Rig:
    """Routers between a sender and a receiver."""

    def __init__(self):
        self.near, self.far = Namespace(), Namespace()
        self.routers, self.shares = {}, {}
        for end in (self.near, self.far):
            end.set(ipv6__conf__all__disable_ipv6=1)

    def add(self, name, namespace):
        """Gives a namespace, with the table that it holds, its interfaces."""
        number = len(self.routers) + 1
        namespace.set(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1, ipv4__conf__all__rp_filter=0,
                      ipv4__conf__default__rp_filter=0, ipv6__conf__default__accept_dad=0)
        lines = ["link set lo up"]
        for side, (interface, end, net) in enumerate((("bng0", self.near, 1), ("up0", self.far, 5))):
            mac = f"02:00:00:{side:02x}:{number:02x}"
            lines += [f"link add {interface} address {mac}:01 type veth peer name way{number} address {mac}:02 "
                      f"netns {end.path}",
                      f"link set {interface} up", f"addr add 192.0.2.{net}/30 dev {interface}",
                      f"addr add 2001:db8:0:{net}::1/64 dev {interface} nodad",
                      f"neigh replace 192.0.2.{net + 1} lladdr 02:ff:ff:ff:ff:ff dev {interface} nud permanent",
                      f"neigh replace 2001:db8:0:{net}::2 lladdr 02:ff:ff:ff:ff:ff dev {interface} nud permanent"]
        lines += ["route add 100.64.0.0/10 via 192.0.2.2", "route add 2001:db8:100::/40 via 2001:db8:0:1::2",
                  "route add default via 192.0.2.6", "route add ::/0 via 2001:db8:0:5::2"]
        namespace.run("ip", "-batch", "-", text="\n".join(lines) + "\n")
        for end in (self.near, self.far):
            end.run("ip", "link", "set", f"way{number}", "up")
        self.routers[name] = (number, namespace)

    def way(self, name, kind):
        """A line for bench_packets."""
        number, _ = self.routers[name]
        from_server = kind[1].startswith("198.")
        side, end = (1, self.far) if from_server else (0, self.near)
        mac = f"02:00:00:{side:02x}:{number:02x}"
        return f"{end.path} way{number} {mac}:02 {mac}:01 {' '.join(map(str, kind))} {SOURCES}"

    def arrived(self, name, kind):
        """Packets that came out so far at the end opposite to the sender's."""
        number, _ = self.routers[name]
        end = self.near if kind[1].startswith("198.") else self.far

        def read():
            listing = open("/proc/net/dev", encoding="ascii").read()
            return next(int(line.split(":")[1].split()[1]) for line in listing.splitlines()
                        if line.strip().startswith(f"way{number}:"))

        return end.inside(read)

    def costs(self, names, kind, turns):
        """Nanoseconds per packet by router, one for each turn. `shares` then holds which part arrived."""
        ways = "\n".join(self.way(name, kind) for name in names) + "\n"
        before = [self.arrived(name, kind) for name in names]
        lines = self.near.run(SENDER, "0", str(CALLS), str(turns), text=ways).splitlines()
        sent = [int(word) for word in lines[-1].split()]
        self.shares = {name: (self.arrived(name, kind) - start) / count
                       for name, start, count in zip(names, before, sent)}
        rows = [[float(word) for word in line.split()] for line in lines[:-1]]
        return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def hand_written(exemptions):
    """The shortest table that drops what ours drops on this way: one rule, one set, collected as seldom as ours."""
    elements = ", ".join(map(exempt_address, range(exemptions)))
    return (f"table inet shortest {{\nset exempt {{\ntype ipv4_addr; flags timeout; size {2 * exemptions};\n"
            f"gc-interval {max(1, exemptions // 16384)}s;\n"
            f"elements = {{ {elements} }}\n}}\nchain border {{\ntype filter hook forward priority -10; policy accept;\n"
            "tcp dport 25 ip saddr != @exempt drop\n}\n}\n")


def quartiles(samples):
    """First quartile, median, third quartile."""
    return statistics.quantiles(samples, n=4)


def packet_path(table, routers, turns):
    """`routers`: namespaces that hold our table, by their number of exemptions."""
    rig = Rig()
    rig.add("no table", Namespace())
    rig.add("no table again", Namespace())
    shortest = {}
    for size, namespace in routers.items():
        rig.add(size, namespace)
        shortest[size] = Namespace()
        shortest[size].run("nft", "-f", "-", text=hand_written(size))
        rig.add(f"shortest {size}", shortest[size])
    for what, kind in OTHER.items():
        costs = rig.costs(["no table", "no table again", *routers], kind, turns)
        if any(abs(share - 1) > 0.001 for share in rig.shares.values()):
            raise RuntimeError(f"{what}: not everything arrived: {rig.shares}")
        for name in ("no table again", *routers):
            add_throughput(table, what, costs, name)
    for what, kind in SMTP.items():
        peers = {size: f"shortest {size}" for size in routers}
        costs = rig.costs([*routers, *peers.values()], kind, turns)
        if any(rig.shares.values()):
            raise RuntimeError(f"{what}: it was not all dropped: {rig.shares}")
        for size, peer in peers.items():
            shares = [theirs / ours for ours, theirs in zip(costs[size], costs[peer])]
            low, middle, high = quartiles(shares)
            table.add(f"{what} dropped, time per packet", "ns", size, statistics.median(costs[size]),
                      peer="one rule, one set", theirs=statistics.median(costs[peer]),
                      how=f"{turns} turns of {CALLS * 64:,} SYNs, {SOURCES:,} sources")
            table.add(f"{what} dropped, rate against one rule with one set", "%", size, 100 * middle,
                      spread=(100 * low, 100 * high), goal="100", how="turn by turn; in brackets the quartiles")


def add_throughput(table, what, costs, name):
    """What one packet takes, and the throughput that is left."""
    base, ours = costs["no table"], costs[name]
    control = name == "no table again"
    size = 0 if control else name
    label = "other traffic without a table again (the noise)" if control else "other traffic"
    low, middle, high = quartiles([100 * b / o for b, o in zip(base, ours)])
    table.add(f"{label}, {what}: throughput against no table", "%", size, middle, spread=(low, high),
              goal="" if control else "99", how=f"{len(ours)} turns of {CALLS * 64:,} packets without content, one CPU, "
              "veth to veth; in brackets the quartiles")
    table.add(f"{label}, {what}: time per packet", "ns", size, statistics.median(ours), peer="no table",
              theirs=statistics.median(base), how="median of calls of 64 packets")


HOOKS = {"forward": "forward priority -10", "prerouting": "prerouting priority -300",
         "ingress": "ingress device bng0 priority 0"}


def hooked(hook, rules):
    """A table that decides at one hook by these rules of chain border; what is to port 25 drops."""
    chains = "".join(f"chain {name} {{\n{body}\n}}\n" for name, body in
                     (("hidden", "counter"), ("mail", "drop"), ("replies", "counter")))
    return (f"table inet hooked {{\n{chains}chain border {{\ntype filter hook {hook}; policy accept;\n"
            + "\n".join(rules) + "\n}\n}\n")


def hooks(table, script, turns):
    """The hooks that could decide, with the border's own tests; and what a hook costs that tests nothing, or one port."""
    with open(script, encoding="utf-8") as file:
        rules = [line.partition(" border ")[2] for line in file if line.startswith("add rule inet smtpfence border ")]
    tables = {f"our tests at {name}": hooked(hook, rules) for name, hook in HOOKS.items()}
    tables["no rule at forward"] = hooked(HOOKS["forward"], [])
    tables["tcp dport 25 at forward"] = hooked(HOOKS["forward"], ["tcp dport 25 drop"])
    rig = Rig()
    rig.add("no table", Namespace())
    for name, text in tables.items():
        namespace = Namespace()
        rig.add(name, namespace)
        namespace.run("nft", "-f", "-", text=text)
    for what, kind in {**OTHER, **SMTP}.items():
        costs = rig.costs(["no table", *tables], kind, turns)
        for name in tables:
            more = [ours - base for base, ours in zip(costs["no table"], costs[name])]
            low, middle, high = quartiles(more)
            fate = "passes" if rig.shares[name] > 0.5 else "dropped"
            table.add(f"{name}: {what} {fate}, more than without a table", "ns", 0, middle, spread=(low, high),
                      how="turn by turn; in brackets the quartiles")
