"""probe, in a network namespace of this process that stands for the router's own: what it reports, and that it leaves
nothing behind."""

import ctypes
import glob
import os
import pathlib
import re
import signal
import subprocess
import time
import unittest

from program import CONFLICT, DENIED, FAILED, PATIENCE, PROGRAM, ServiceCase

CLONE_NEWNET = 0x40000000
ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "packaging" / "sample"
KEYS = ["class", "action", "family", "direction", "interface", "packet", "from", "to", "port", "port_at", "expected",
        "seen", "ok"]


def setUpModule():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare: run the tests as root")
    for command in ("ip link add bng0 type veth peer name line", "ip link set bng0 up", "ip addr add 192.0.2.1/24 dev bng0",
                    "nft add table inet other", "nft add chain inet other c { type filter hook forward priority 0; }"):
        subprocess.run(command.split(), check=True)


def router():
    """All that a router is: interfaces, addresses, routes, rules, settings."""
    commands = ("ip -o link", "ip -o addr", "ip route show table all", "ip -6 route show table all",
                "nft list ruleset", "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/all/rp_filter "
                "/proc/sys/net/ipv6/conf/all/forwarding", "ls -A /run/netns")
    said = [subprocess.run(command.split(), text=True, capture_output=True, check=False).stdout for command in commands]
    return [re.sub(r" expires [0-9a-z]+", "", text) for text in said]


def left(mark):
    """Processes with this word in their environment: a probe's, or its children's. (A namespace's number would not do: as
    soon as it is gone, another test's may have it.)"""
    found = []
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            with open(path, "rb") as file:
                if mark.encode() in file.read():
                    found.append(path)
        except OSError:
            pass  # ended meanwhile
    return found


class ProbeCase(ServiceCase):
    interfaces = '[interfaces]\nsubscriber = ["bng0", "vlan*"]\n'

    def setUp(self):
        super().setUp()
        with open(self.configuration, "a", encoding="utf-8") as file:
            file.write(self.interfaces)

    def import_sample(self):
        for name in ("network.jsonl", "customers.jsonl", "exemptions.jsonl"):
            self.run_program("import", str(SAMPLE / name), "--format", "jsonl", "--source", name.partition(".")[0])
        self.run_program("import", str(SAMPLE / "business.csv"), "--format", "csv", "--what", "assignments",
                         "--source", "business")


class Sample(ProbeCase):
    def setUp(self):
        super().setUp()
        self.import_sample()

    def test_every_class_gets_what_the_policy_says(self):
        report = self.json("probe")
        self.assertEqual(report["revision"], self.revision())
        rows = report["items"]
        self.assertTrue(all(list(row) == KEYS for row in rows))
        self.assertEqual([row for row in rows if not row["ok"] or row["seen"] != row["expected"]], [])

        def seen(about, action, packet, direction, port=25, interface="bng0"):
            return {row["family"]: row["seen"] for row in rows if
                    (row["class"], row["action"], row["packet"], row["direction"], row["port"], row["interface"])
                    == (about, action, packet, direction, port, interface)
                    and row["to" if direction == "out" else "from"] not in relays
                    and row["port_at"] == ("to" if direction == "out" else "from")}

        relays = {row["from"] for row in rows if row["class"] == "relay" and row["direction"] == "out"}
        self.assertEqual(len(relays), 2)
        for packet, direction in (("syn", "out"), ("data", "out"), ("syn-ack", "in"), ("data", "in")):
            self.assertEqual(seen("consumer", "drop", packet, direction), {4: "drop", 6: "drop"})
            self.assertEqual(seen("consumer", "reject", packet, direction), {4: "reject", 6: "reject"})
            self.assertEqual(seen("consumer", "observe", packet, direction), {4: "pass", 6: "pass"})
            self.assertEqual(seen("consumer", "pass", packet, direction), {4: "pass", 6: "pass"})
            self.assertEqual(seen("expert", None, packet, direction), {4: "pass", 6: "pass"})
            self.assertEqual(seen("outside", "drop", packet, direction), {4: "drop", 6: "drop"})
            self.assertEqual(seen("outside", "drop", packet, direction, interface="vlan0"), {4: "drop", 6: "drop"})
            self.assertEqual(seen("outside", None, packet, direction, interface="other0"), {4: "pass", 6: "pass"})
        for about in ("consumer", "expert", "relay"):
            self.assertEqual(seen(f"spoofed {about}", "drop", "syn", "out"), {4: "drop", 6: "drop"})
        for action in ("drop", "reject"):
            self.assertEqual(seen("consumer", action, "cut first fragment", "out"), {4: "drop", 6: "drop"})
            self.assertEqual(seen("consumer", action, "fragment at offset 1", "out"), {4: "drop"})
            for port in (443, 465, 587):
                self.assertEqual(seen("consumer", action, "syn", "out", port), {4: "pass", 6: "pass"})

    def test_a_table_for_people(self):
        result = self.run_program("probe")
        self.assertIn("EXPECTED", result.out)
        self.assertIn("all as expected", result.err)
        self.assertNotIn("warning", result.err)
        self.assertEqual(self.run_program("probe", "--quiet").err, "")

    def test_beside_the_service_the_router_stays_as_it_is(self):
        self.addCleanup(subprocess.run, ["nft", "delete", "table", "inet", "smtpfence"], check=True)
        self.addCleanup(self.stop)
        self.start()
        before = router()
        self.assertIn("table inet smtpfence", before[4])
        revision = self.revision()
        self.run_program("probe")
        self.assertEqual(router(), before)
        self.assertEqual(self.revision(), revision)

    def test_killed_at_any_moment_it_leaves_nothing(self):
        own, before = os.readlink("/proc/self/ns/net"), router()
        inside, mark = 0, f"PROBE_MARK=killed-{os.getpid()}"
        with subprocess.Popen(["sleep", "60"], env={"PROBE_MARK": mark.partition("=")[2]}) as other:
            deadline = time.monotonic() + PATIENCE
            while not left(mark) and time.monotonic() < deadline:  # exec's end can be seen before the environment
                pass
            self.assertEqual(left(mark), [f"/proc/{other.pid}/environ"])
            other.kill()
        for delay in (0, 0.002, 0.005, 0.01, 0.02, 0.04):
            with subprocess.Popen([PROGRAM, "--config", self.configuration, "probe"], stdout=subprocess.DEVNULL,
                                  env=dict(self.environment, SMTPFENCE_DATABASE=self.database_url,
                                           PROBE_MARK=mark.partition("=")[2])) as probe:
                deadline = time.monotonic() + PATIENCE
                network = own
                while network == own and time.monotonic() < deadline and probe.poll() is None:
                    try:
                        network = os.readlink(f"/proc/{probe.pid}/ns/net")
                    except OSError:
                        break
                time.sleep(delay)
                probe.send_signal(signal.SIGKILL)
                inside += probe.wait(PATIENCE) == -signal.SIGKILL and network != own
            self.assertEqual(router(), before)
            self.assertEqual(left(mark), [])
        self.assertGreater(inside, 0)


class WithoutInterfaces(ProbeCase):
    interfaces = ""

    def test_pools_alone_decide_and_what_is_left_out_is_said(self):
        self.populate()
        report = self.json("probe")
        self.assertTrue(all(row["ok"] for row in report["items"]))
        self.assertEqual({row["interface"] for row in report["items"]}, {"other0"})
        self.assertEqual({row["seen"] for row in report["items"] if row["class"] == "outside"}, {"pass"})
        self.assertIn("IPv4: no exempt address", report["left_out"])
        self.assertIn("IPv6: no pool with action reject has an address that is not exempt", report["left_out"])
        self.assertTrue(any("source addresses are not enforced" in what for what in report["left_out"]))
        self.assertIn("left out: IPv4: no exempt address", self.run_program("probe").err)

    def test_without_relay_it_refuses_as_apply_does(self):
        self.run_program("relay", "add", "203.0.113.10")
        self.run_program("pool", "add", "100.64.0.0/10", "--action", "observe")
        self.run_program("relay", "remove", "203.0.113.10")
        self.run_program("probe")
        self.run_program("pool", "set", "100.64.0.0/10", "--action", "drop")
        self.assertIn("relay", self.run_program("probe", code=CONFLICT).err)

    def test_without_the_rights(self):
        self.populate()
        for right in ("net_admin", "sys_admin"):
            with self.subTest(right):
                wrapper = ("setpriv", f"--bounding-set=-{right}", f"--inh-caps=-{right}")
                result = self.refused(DENIED, "probe", wrapper=wrapper, saying="CAP_SYS_ADMIN and CAP_NET_ADMIN")
                self.assertIn("run it as root", result.err)

    def test_where_settings_are_read_only_it_says_which(self):
        self.populate()
        script = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"'
        wrapper = (str(ROOT / "packaging" / "private_mounts.py"), "sh", "-c", script, "sh")
        self.refused(FAILED, "probe", wrapper=wrapper, saying="/proc/sys/net/ipv4")
        self.run_program("probe")

    def test_where_nobody_made_the_device_node(self):
        self.populate()
        before = os.listdir("/dev")
        wrapper = (str(ROOT / "packaging" / "private_mounts.py"), "sh", "-c",
                   '[ ! -d /dev/net ] || mount -t tmpfs none /dev/net && exec "$@"', "sh")
        self.assertIn("all as expected", self.run_program("probe", wrapper=wrapper).err)
        self.assertEqual(os.listdir("/dev"), before)


if __name__ == "__main__":
    unittest.main()
