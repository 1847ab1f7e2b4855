"""Other firewalls on the router: firewalld, and Docker's chains, which iptables-nft and nft load. What they accept at port
25 stays closed, what they close stays closed, and nobody's table is touched by another."""

import os
import subprocess
import sys
import time
import unittest

from heal_test import Flood
from network import FAMILIES, PATIENCE, Line, Session, receive
from packet_case import tcp
from service_test import ServiceCase
from service import still

PRIVATE_MOUNTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../packaging/private_mounts.py")
OTHER_PORT = 8025  # closed by the other firewalls

# firewall-cmd, which waits for an answer longer than D-Bus's 25 s: an emulated firewalld under a flood takes more.
FIREWALL_CMD = """import runpy, shutil, sys
from dbus.connection import Connection
call = Connection.call_blocking
Connection.call_blocking = lambda *words, **options: call(*words, **(options | {"timeout": 170}))
sys.argv[0] = shutil.which("firewall-cmd")
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# From subscribers they let port 25 and 587 pass, and the network's sentinels; into them everything.
ZONES = {"subscribers": ("bng0", "vlan101", "bng01"), "upstream": ("up0",)}
POLICIES = {
    "out": ("CONTINUE", "subscribers", "upstream", (("25", "tcp"), ("587", "tcp"), ("9", "udp"))),
    "in": ("ACCEPT", "upstream", "subscribers", ()),
}

# What dockerd has iptables make for one container with a published port, and in DOCKER-USER what lets a router go on.
FILTER = """*filter
:FORWARD DROP
:DOCKER -
:DOCKER-ISOLATION-STAGE-1 -
:DOCKER-ISOLATION-STAGE-2 -
:DOCKER-USER -
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -p tcp --dport 25 -j ACCEPT
-A DOCKER-USER -p tcp --dport 587 -j ACCEPT
-A DOCKER-USER -p udp --dport 9 -j ACCEPT
-A DOCKER-USER -i up0 ! -o docker0 -j ACCEPT
-A DOCKER-USER -j RETURN
"""
PUBLISHED = """-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 25 -j ACCEPT
COMMIT
*nat
:DOCKER -
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 2525 -j DNAT --to-destination 172.17.0.2:25
COMMIT
"""
DOCKER = {"iptables": FILTER + PUBLISHED, "ip6tables": FILTER + "COMMIT\n"}

# The same as tables of nft's own, and how they are loaded anew.
BRIDGES = "\n".join("""table {0} docker-bridges {{}}
delete table {0} docker-bridges
table {0} docker-bridges {{
    map forward-out {{ type ifname : verdict; elements = {{ "docker0" : accept }} }}
    chain forward {{
        type filter hook forward priority filter; policy drop;
        tcp dport {{ 25, 587 }} accept
        udp dport 9 accept
        iifname "up0" accept
        iifname vmap @forward-out
    }}
}}
""".format(family) for family in ("ip", "ip6"))


class Coexistence(ServiceCase):
    """Where somebody flushes what nobody owns, the service heals: heal_test. Here nobody touches the fence."""

    def setUp(self):
        super().setUp()
        self.router = self.network.router

    def tables(self, ours=False):
        """Every table by its name, with its handles: nothing in it was made anew when they are the same."""
        names = [line.removeprefix("table ") for line in self.router.nft("list", "tables").splitlines()]
        return {name: still(self.router.nft("-a", "list", "table", *name.split()))
                for name in names if (name == "inet smtpfence") == ours}

    def beside(self, *others):
        """The service starts and works beside others' tables, whose names these are: neither is touched."""
        for a in FAMILIES:
            self.passes(tcp(a, a.drop, a.server))  # as the others have it
        before = self.tables()
        self.assertEqual(sorted(before), sorted(others))
        self.service.start()
        self.both_work()
        self.service.command("exempt", "revoke", "expert", "--reason", "abuse", "--wait", "20s")
        for a in FAMILIES:
            self.dropped(tcp(a, a.expert, a.server))
        self.service.command("exempt", "grant", "expert", "--reason", "runs a mail server", "--wait", "20s")
        self.both_work()
        self.assertEqual(self.tables(), before)

    def both_work(self, closed=True):
        self.fence_holds()
        for a in FAMILIES:
            for source in (a.drop, a.expert):
                with self.subTest(source=source):
                    outcome = self.network.inject(tcp(a, source, a.server, dport=OTHER_PORT), "home", "internet")
                    self.assertEqual(outcome.arrived, not closed)

    def untouched(self, *acts):
        """Others change what is theirs, under a flood: nothing leaks, and the service had nothing to do."""
        before, drift, said = self.tables(ours=True), self.drift(), self.service.journal()
        for act in acts:
            with self.subTest(act=act), Flood(self) as flood:
                self.service.enforced(lambda flood=flood: len(flood.times) > 100, "a flood")
                act()
                sent = len(flood.times)
                self.service.enforced(lambda flood=flood, sent=sent: len(flood.times) > sent + 100, "a flood")
            self.assertEqual(flood.leaked(), [])
        self.assertEqual(self.tables(ours=True), before)
        self.service.command("plan")  # exit 0: nothing differs
        self.assertEqual((self.drift(), self.service.journal()), (drift, said))

    def drift(self):
        item, = self.service.json("status")["items"]
        return item["drift_healed"]

    def leaves_the_others(self):
        """The service goes, with its table."""
        before = self.tables()
        self.service.stop()
        self.service.command("clear", "--yes")
        self.assertEqual((self.tables(ours=True), self.tables()), ({}, before))
        for a in FAMILIES:
            self.passes(tcp(a, a.drop, a.server))  # which they accept


class Firewalld(Coexistence):
    def setUp(self):
        super().setUp()
        self.folder = os.path.join(self.service.directory, "firewalld")
        for path, text in self.configuration().items():
            os.makedirs(os.path.dirname(os.path.join(self.folder, path)), exist_ok=True)
            with open(os.path.join(self.folder, path), "w", encoding="ascii") as file:
                file.write(text)
        bus = f"unix:path={self.service.directory}/bus"
        self.environment = os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": bus}
        daemon = self.router.start("dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={bus}", "--print-address",
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.addCleanup(daemon.stdout.close)
        self.addCleanup(self.end, daemon)
        self.assertIn(bus, daemon.stdout.readline())

    @staticmethod
    def configuration():
        """firewalld's files."""
        files = {"firewalld.conf": "DefaultZone=public\nFirewallBackend=nftables\n"}
        for zone, interfaces in ZONES.items():
            inside = "".join(f'<interface name="{name}"/>' for name in interfaces)
            files[f"zones/{zone}.xml"] = f"<zone>{inside}</zone>\n"
        for policy, (target, source, destination, ports) in POLICIES.items():
            inside = "".join(f'<port port="{port}" protocol="{protocol}"/>' for port, protocol in ports)
            files[f"policies/{policy}.xml"] = (f'<policy target="{target}"><ingress-zone name="{source}"/>'
                                               f'<egress-zone name="{destination}"/>{inside}</policy>\n')
        return files

    @staticmethod
    def end(process):
        process.terminate()
        process.wait(PATIENCE)

    def start_firewalld(self):
        """With a /run of its own; returns when its rules are loaded."""
        self.log = os.path.join(self.service.directory, "firewalld.log")
        with open(self.log, "w", encoding="utf-8") as log:
            daemon = self.router.start(
                PRIVATE_MOUNTS, "sh", "-c", 'mount -t tmpfs run /run && exec "$@"', "sh", sys.executable, "/usr/sbin/firewalld",
                "--nofork", "--nopid", "--system-config", self.folder, "--log-target", "console", stdout=log, stderr=log,
                env=self.environment)
        self.addCleanup(self.end, daemon)
        deadline = time.monotonic() + 3 * PATIENCE
        while self.client("--state", check=False).returncode != 0:
            self.assertTrue(daemon.poll() is None and time.monotonic() < deadline, self.said())
        return daemon

    def said(self):
        with open(self.log, encoding="utf-8") as file:
            return file.read()

    def client(self, *words, check=True):
        done = self.router.run(sys.executable, "-c", FIREWALL_CMD, *words, check=False, env=self.environment)
        if check:
            self.assertEqual(done.returncode, 0, done.stderr + self.said())
        return done

    def test_both_work_and_neither_touches_the_other(self):
        daemon = self.start_firewalld()
        self.beside("inet firewalld")
        self.untouched(lambda: self.client("--reload"),
                       lambda: self.client("--policy", "out", "--remove-port", "25/tcp"))
        for a in FAMILIES:
            self.assertFalse(self.network.inject(tcp(a, a.expert, a.server), "home", "internet").arrived)
            self.dropped(tcp(a, a.drop, a.server))
        self.client("--policy", "out", "--add-port", "25/tcp")
        self.both_work()
        self.untouched(lambda: self.end(daemon))
        self.assertEqual(self.tables(), {})
        self.both_work(closed=False)
        self.start_firewalld()
        self.both_work()
        self.leaves_the_others()


class Docker(Coexistence):
    def setUp(self):
        super().setUp()
        self.network.lines["container"] = Line(4, "docker0", ("172.17.0.0/16",), ["172.17.0.2"])
        self.network.lines["container"].connect(self.router)

    def restore(self):
        """As at each start of dockerd: everything of these tables is flushed and loaded anew, in one transaction."""
        for program, text in DOCKER.items():
            self.router.run(f"{program}-nft-restore", input=text)

    def flush(self):
        for program in DOCKER:
            for words in ("-P FORWARD ACCEPT", "-F", "-X", "-t nat -F", "-t nat -X"):
                self.router.run(f"{program}-nft", *words.split())

    def load(self):
        self.router.nft("-f", "-", input=BRIDGES)

    def published(self, source):
        """Whether a line reaches the container's port 25 by the router's port 2525."""
        packet = tcp(FAMILIES[0], source, self.network.lines["home"].router4, dport=2525)
        wire = self.network.wire("container")
        wire.waiting()
        self.network.wire("home").send(packet)
        self.network.sentinel("home", "internet")
        return any(raw[16:20] == bytes((172, 17, 0, 2)) and raw[24:28] == bytes(packet)[24:28] for raw in wire.waiting())

    def containers_work(self):
        with Session(self.network, "container", "172.17.0.2", "internet", FAMILIES[0].server) as session:
            session.client.sendall(b"EHLO container\r\n")
            self.assertEqual(receive(session.server, 16), b"EHLO container\r\n")

    def test_chains_of_iptables(self):
        self.restore()
        self.assertTrue(self.published(FAMILIES[0].drop))
        self.beside("ip filter", "ip nat", "ip6 filter")
        self.containers_work()
        # A published port is judged as what it becomes.
        self.assertFalse(self.published(FAMILIES[0].drop))
        self.assertTrue(self.published(FAMILIES[0].expert))
        self.untouched(self.restore, self.flush)
        self.both_work(closed=False)
        self.untouched(self.restore)
        self.both_work()
        self.leaves_the_others()

    def test_tables_of_nft(self):
        self.load()
        self.beside("ip docker-bridges", "ip6 docker-bridges")
        self.containers_work()
        self.untouched(self.load, self.load,
                       lambda: self.router.nft("flush", "chain", "ip", "docker-bridges", "forward"),
                       lambda: self.router.nft("delete", "table", "ip", "docker-bridges"), self.load)
        self.both_work()
        self.leaves_the_others()


class DockerBesideATableThatNobodyOwns(Docker):
    def setUp(self):
        super().setUp()
        self.router.nft("add", "table", "inet", "smtpfence")  # can't gain an owner from then on


del Coexistence

if __name__ == "__main__":
    unittest.main()
