"""plan, apply, run, status, router, explain, attempts and clear, on the kernel of a network namespace of this process;
and what --wait says while the service runs."""

import ctypes
import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import time
import unittest

from program import CHANGES, CONFLICT, FAILED, NOT_ENFORCED, NOT_FOUND, PATIENCE, PROGRAM, ServiceCase

CLONE_NEWNET = 0x40000000
WITHOUT_RIGHT = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")


def setUpModule():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare: run the tests as root")
    KernelCase.own_network = True


def nft(*words, check=True):
    return subprocess.run(["nft", *words], text=True, capture_output=True, check=check).stdout


class KernelCase(ServiceCase):
    """A test on the kernel's tables, which it removes: never those of this machine."""
    own_network = False  # setUpModule, which a module of such tests imports, has moved this process to another one

    def setUp(self):
        self.assertTrue(self.own_network, "the module lacks kernel_test's setUpModule")
        self.addCleanup(nft, "flush", "ruleset")  # last of all: a running service's table is skipped
        super().setUp()
        self.populate()


class Plan(KernelCase):
    def test_changes_with_their_causes(self):
        self.run_program("exempt", "grant", "c1", "--reason", "runs a server", "--ticket", "T-9", "--no-wait")
        plan = self.json("plan", code=CHANGES)
        self.assertEqual((plan["version"], plan["revision"]), (1, 4))
        self.assertRegex(plan["digest"], "^[0-9a-f]{64}$")
        self.assertTrue(all(item["cause"] for item in plan["items"]))
        right = [item for item in plan["items"] if item["where"].startswith("exempt4_32") and item["object"] == "element"]
        self.assertEqual(len(right), 1)
        self.assertIn("100.64.3.7", right[0]["what"])
        self.assertIn("T-9", right[0]["cause"])
        self.assertIn(plan["digest"], self.run_program("plan", code=CHANGES).out)
        self.assertEqual(nft("list", "tables"), "")

    def test_the_digest_follows_what_would_be_done(self):
        first = self.json("plan", code=CHANGES)["digest"]
        self.assertEqual(self.json("plan", code=CHANGES)["digest"], first)
        self.run_program("pool", "add", "10.0.0.0/8")
        self.assertNotEqual(self.json("plan", code=CHANGES)["digest"], first)

    def test_nothing_to_do_after_apply(self):
        self.run_program("apply")
        plan = self.json("plan")
        self.assertEqual(plan["items"], [])
        self.assertEqual(self.run_program("plan", "--format", "nft").out, "")

    def test_a_family_without_relay_is_doubted(self):
        self.assertNotIn("relay:", self.run_program("plan", code=CHANGES).err)
        self.run_program("relay", "remove", "2001:db8:25::/64")
        self.run_program("pool", "add", "2001:db8:100::/40")
        self.assertIn("no IPv6 relay: lines in pool 2001:db8:100::/40 (drop)", self.run_program("plan", code=CHANGES).err)
        self.start()
        status, = self.listed("status")
        self.assertEqual([words for words in status["warnings"] if "relay" in words],
                         ["no IPv6 relay: lines in pool 2001:db8:100::/40 (drop) reach no relay over IPv6; if they shall, "
                          "add it with 'smtpfence relay add PREFIX'"])

    def test_nft_loads_what_is_printed(self):
        self.run_program("exempt", "grant", "c1", "--reason", "x", "--until", "2100-01-01T00:00:00Z", "--no-wait")
        script = self.write("plan.nft", self.run_program("plan", "--format", "nft", code=CHANGES).out)
        nft("-f", script)
        self.assertIn("100.64.3.7", nft("list", "table", "inet", "smtpfence"))
        self.run_program("plan")


class Apply(KernelCase):
    def test_by_itself(self):
        applied = self.json("apply")
        self.assertEqual(applied["revision"], 3)
        self.assertGreater(applied["changes"], 0)
        self.assertIn("100.64.0.0/10", nft("list", "map", "inet", "smtpfence", "pool4"))
        self.assertEqual(self.json("apply")["changes"], 0)
        self.assertIn("revision 3 is enforced; 0 changes", self.run_program("apply").out)
        self.assertEqual(self.listed("router", "list"), [])

    def test_a_fence_without_relay_is_refused(self):
        self.run_program("init", "--database", f"sqlite:{self.path('other.db')}")
        self.database_url = f"sqlite:{self.path('other.db')}"
        self.run_program("pool", "add", "100.64.0.0/10", "--action", "observe")
        self.configuration = self.write("config.toml", f'state_directory = "{self.path("state")}"\n[interfaces]\nsubscriber = ["bng0"]\n')
        for words in (("apply",), ("plan",)):
            self.refused(CONFLICT, *words, saying="relay add")
        self.assertEqual(nft("list", "tables"), "")

    def test_beside_the_service_hands_over(self):
        self.start()
        applied = self.json("apply")
        self.assertEqual((applied["version"], applied["revision"]), (1, 3))

    def test_while_another_one_applies_takes_its_turn(self):
        open_requests = "SELECT count(*) FROM apply_request WHERE answer IS NULL"
        os.makedirs(self.path("state"))
        with open(self.path("state/lock"), "w", encoding="ascii") as lock, sqlite3.connect(self.database) as session:
            fcntl.flock(lock, fcntl.LOCK_EX)
            waiting = self.beside("apply", text=True, stdout=subprocess.PIPE)
            while session.execute(open_requests).fetchone()[0] == 0:
                self.assertIsNone(waiting.poll())
                time.sleep(0.01)
            fcntl.flock(lock, fcntl.LOCK_UN)
            said, _ = waiting.communicate(timeout=PATIENCE)
            self.assertEqual(waiting.returncode, 0)
            self.assertIn("revision 3 is enforced", said)
            self.assertEqual(session.execute(open_requests).fetchone()[0], 0)
        self.run_program("plan")

    def test_two_at_once_both_end_well(self):
        both = [self.beside("apply") for _ in range(2)]
        self.assertEqual([one.wait(PATIENCE) for one in both], [0, 0])
        self.run_program("plan")

    def test_a_service_that_does_not_answer_leaves_no_request_behind(self):
        self.start()
        self.service.send_signal(signal.SIGSTOP)
        try:
            self.assertIn("did not answer", self.run_program("apply", code=NOT_ENFORCED).err)
            with sqlite3.connect(self.database) as session:
                self.assertEqual(session.execute("SELECT count(*) FROM apply_request").fetchone()[0], 0)
        finally:
            self.service.send_signal(signal.SIGCONT)

    def test_beside_the_service_prints_what_it_could_not(self):
        self.configuration = self.write("config.toml", f'router = "edge1"\nstate_directory = "{self.path("state")}"\n'
                                        '[interfaces]\nsubscriber = ["bng0"]\n')
        self.start()
        self.run_program("pool", "set", "--all", "--action", "observe", "--confirm")
        service, self.configuration = self.configuration, self.write("desk.toml", "")  # which knows no interfaces
        self.run_program("relay", "remove", "203.0.113.10", "2001:db8:25::/64")
        self.configuration = service
        result = self.run_program("apply", code=FAILED)
        self.assertIn("edge1", result.err)
        self.assertIn("relay add", result.err)


class Clear(KernelCase):
    def test_removes_the_table_and_nothing_else(self):
        nft("add", "table", "inet", "other")
        self.run_program("apply")
        self.assertEqual(self.json("clear", "--yes"), {"version": 1, "removed": True})
        self.assertEqual(nft("list", "tables"), "table inet other\n")
        self.assertEqual(self.json("clear", "--yes")["removed"], False)
        self.run_program("relay", "list")

    def test_refused_while_the_service_runs(self):
        self.start()
        self.refused(CONFLICT, "clear", "--yes", saying=str(self.service.pid))
        self.assertIn("smtpfence", nft("list", "tables"))
        self.stop()
        self.run_program("clear", "--yes")


class Run(KernelCase):
    def test_two_at_once_are_refused(self):
        self.start()
        self.run_program("run", code=CONFLICT)

    def test_an_invalid_configuration(self):
        self.configuration = self.write("config.toml", "[metrics]\n")
        self.run_program("run", code=7)

    def test_status(self):
        self.assertEqual(self.listed("status"), [])
        self.assertIn("no router has reported", self.run_program("status").err)
        self.start()
        items = self.listed("status")
        self.assertEqual(len(items), 1)
        for key in ("router", "revision", "desired_revision", "lag_seconds", "live", "last_pass", "verified_at", "drift_healed",
                    "guard", "error", "version"):
            self.assertIn(key, items[0])
        self.assertEqual([items[0][key] for key in ("router", "revision", "desired_revision", "lag_seconds", "live", "guard", "error")],
                         ["edge1", 3, 3, 0, True, None, None])
        shown = self.run_program("status")
        self.assertIn("edge1", shown.out)
        self.assertEqual(len(shown.err.splitlines()), 1)
        self.assertIn("source addresses not enforced", shown.err)
        self.assertIn("owner and persist flags", items[0]["notes"])
        self.assertIn("owner and persist flags", self.journal())
        self.assertEqual(self.listed("router", "list")[0]["live"], True)

    def test_a_router_that_stopped_is_not_live_and_can_be_forgotten(self):
        self.start()
        self.stop()
        with sqlite3.connect(self.database) as session:
            session.execute("UPDATE router SET heartbeat = heartbeat - 60")
        self.assertEqual(self.listed("status")[0]["live"], False)
        self.run_program("pool", "add", "10.0.0.0/8")
        time.sleep(1.1)
        self.assertGreaterEqual(self.listed("status")[0]["lag_seconds"], 1)
        result = self.run_program("exempt", "grant", "c1", "--reason", "x", code=NOT_ENFORCED)
        self.assertIn("edge1 (no heartbeat since", result.out)
        self.run_program("router", "forget", "edge1")
        self.assertEqual(self.listed("router", "list"), [])
        self.refused(NOT_FOUND, "router", "forget", "edge1")

    def test_watch_redraws_until_interrupted(self):
        ours, theirs = os.openpty()
        watch = self.beside("status", "--watch", stdout=theirs, stderr=theirs)
        os.close(theirs)
        shown = b""
        while shown.count(b"\x1b[2J") < 3:
            shown += os.read(ours, 4096)
        watch.send_signal(signal.SIGINT)
        self.assertEqual(watch.wait(PATIENCE), -signal.SIGINT)
        os.close(ours)


class OwnUser(KernelCase):
    """The service as a user with CAP_NET_ADMIN and nothing else, in directories of his, where root gives commands, too."""
    USER = 65534
    # Another user's process would forget that it ends with the test: said again.
    AS_SERVICE = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--inh-caps=-all,+net_admin",
                  "--ambient-caps=+net_admin", "--bounding-set=-all,+net_admin", "--pdeathsig=KILL")

    def setUp(self):
        super().setUp()
        for name in os.listdir(self.folder):
            if name.startswith("subscribers.db"):
                os.unlink(self.path(name))
        os.mkdir(self.path("state"))
        for folder in (self.folder, self.path("state")):
            os.chown(folder, self.USER, self.USER)
        self.run_program("init")
        self.populate()
        self.program = shutil.copy(PROGRAM, self.path("program"))  # the other one's folder may be root's alone

    def owners(self):
        files = [os.path.join(folder, name) for folder, _, names in os.walk(self.folder) for name in names
                 if folder != self.folder or name.startswith("subscribers.db")]
        return {os.path.basename(file): os.stat(file).st_uid for file in files}

    def test_what_root_leaves_is_the_users(self):
        self.run_program("apply")
        owners = self.owners()
        self.assertLessEqual({"subscribers.db", "fence", "lock"}, set(owners))
        self.assertEqual(set(owners.values()), {self.USER}, owners)

    def test_both_write(self):
        self.run_program("apply")
        self.start((*self.AS_SERVICE, self.program))
        self.run_program("exempt", "grant", "c1", "--reason", "x", "--wait", "20s")
        self.run_program("exempt", "revoke", "c1", "--reason", "y", "--wait", "20s")
        self.run_program("check")
        self.assertEqual(set(self.owners().values()), {self.USER}, self.owners())
        self.assertNotIn("denied", self.journal())
        status, = self.listed("status")
        self.assertFalse(status["error"])

    def test_the_user_restores(self):
        self.run_program("apply")
        nft("delete", "table", "inet", "smtpfence")
        self.run_program("restore", wrapper=(*self.AS_SERVICE, "--"), program=self.program)
        self.assertIn("100.64.0.0/10", nft("list", "map", "inet", "smtpfence", "pool4"))


class Waiting(KernelCase):
    def test_grant_renew_and_revoke_say_how_fast_the_kernel_followed(self):
        self.start()
        granted = self.json("exempt", "grant", "c1", "--reason", "x", "--wait", "30s")
        self.assertEqual([(r["router"], r["enforced"]) for r in granted["routers"]], [("edge1", True)])
        self.assertGreater(granted["routers"][0]["milliseconds"], 0)
        self.assertIn("100.64.3.7", nft("list", "set", "inet", "smtpfence", "exempt4_32"))
        self.assertRegex(self.run_program("exempt", "renew", "c1", "--reason", "y", "--for", "2d").out,
                         r"^exempt: c1 until \S+ \(100\.64\.3\.7/32, 2001:db8:1000:700::/56\); enforced on edge1 in \d+ ms\n$")
        self.assertEqual(self.json("exempt", "revoke", "c1", "--reason", "z", "--wait", "30s")["routers"][0]["enforced"], True)
        self.assertNotIn("100.64.3.7", nft("list", "set", "inet", "smtpfence", "exempt4_32"))
        self.json("exempt", "revoke", "c1", "--reason", "z")

    def test_assign_and_release(self):
        self.start()
        self.run_program("exempt", "grant", "c1", "--reason", "x")
        self.assertEqual(self.json("assign", "c1", "100.64.3.9", "--wait", "30s")["routers"][0]["enforced"], True)
        self.assertIn("100.64.3.9", nft("list", "set", "inet", "smtpfence", "exempt4_32"))
        self.assertEqual(self.json("release", "100.64.3.9", "--wait", "30s")["routers"][0]["enforced"], True)
        self.assertNotIn("100.64.3.9", nft("list", "set", "inet", "smtpfence", "exempt4_32"))

    def test_a_service_that_hangs_is_named_when_the_time_is_over(self):
        self.start()
        self.service.send_signal(signal.SIGSTOP)
        try:
            result = self.json("exempt", "grant", "c1", "--reason", "x", "--wait", "1s", code=NOT_ENFORCED)
            self.assertEqual((result["routers"][0]["router"], result["routers"][0]["enforced"]), ("edge1", False))
            self.assertIn("revision 3", result["routers"][0]["reason"])
        finally:
            self.service.send_signal(signal.SIGCONT)
        self.assertTrue(self.json("exempt", "grant", "c1", "--reason", "x", "--wait", "30s")["routers"][0]["enforced"])


class Explain(KernelCase):
    def test_an_address(self):
        self.run_program("apply")
        answer = self.json("explain", "100.64.3.7")
        self.assertEqual({key: answer[key] for key in ("version", "address", "customer", "pool", "verdict", "element", "exemption",
                                                       "kernel_agrees", "revision")},
                         {"version": 1, "address": "100.64.3.7", "customer": "c1", "pool": "100.64.0.0/10", "verdict": "drop",
                          "element": "100.64.0.0/10 in pool4", "exemption": None, "kernel_agrees": True, "revision": 3})
        self.assertIn("pool4", answer["rule"])
        self.assertEqual(self.json("explain", "100.64.3.7", "--to", "203.0.113.10")["verdict"], "pass")
        self.assertIn("blocked (drop)", self.run_program("explain", "100.64.3.7").out)

    def test_outside_every_pool(self):
        answer = self.json("explain", "192.0.2.1")
        self.assertEqual((answer["verdict"], answer["pool"], answer["customer"]), ("pass", None, None))
        self.assertIn("not fenced", self.run_program("explain", "192.0.2.1").out)

    def test_a_customer_has_one_answer_for_each_prefix(self):
        self.run_program("apply")
        items = self.listed("explain", "c1")
        self.assertEqual([item["address"] for item in items], ["100.64.3.7", "2001:db8:1000:700::/56"])
        self.assertEqual([item["kernel_agrees"] for item in items], [True, True])
        self.run_program("release", "100.64.3.7")
        self.assertEqual([item["address"] for item in self.listed("explain", "c1")], ["2001:db8:1000:700::/56"])
        self.run_program("release", "2001:db8:1000:700::/56")
        self.assertEqual(self.listed("explain", "c1"), [])
        self.refused(NOT_FOUND, "explain", "nobody")
        self.refused(NOT_FOUND, "explain", "100.64.3.7", "--customer")
        self.run_program("assign", "100.64.3.7", "100.64.3.70")
        self.assertEqual(self.listed("explain", "100.64.3.7", "--customer")[0]["address"], "100.64.3.70")

    def test_the_kernel_differs_until_it_is_applied(self):
        self.run_program("apply")
        self.run_program("exempt", "grant", "c1", "--reason", "x", "--no-wait")
        answer = self.json("explain", "100.64.3.7")
        self.assertEqual((answer["verdict"], answer["kernel_agrees"]), ("pass", False))
        self.assertIn("DIFFERS", self.run_program("explain", "100.64.3.7").out)
        self.run_program("apply")
        self.assertEqual(self.json("explain", "100.64.3.7")["kernel_agrees"], True)

    def test_without_table_or_right_the_kernel_is_not_asked_and_that_is_said(self):
        for wrapper in ((), WITHOUT_RIGHT):
            with self.subTest(wrapper=wrapper):
                result = self.run_program("--output", "json", "explain", "100.64.3.7", wrapper=wrapper)
                self.assertIsNone(result.json["kernel_agrees"])
                self.assertIn("warning: the kernel was not asked", result.err)

    def test_the_past(self):
        self.run_program("exempt", "grant", "c1", "--reason", "x", "--no-wait")
        then = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        time.sleep(1.1)
        self.run_program("exempt", "revoke", "c1", "--reason", "y", "--no-wait")
        self.run_program("assign", "c2", "100.64.3.7", "--take")
        past = self.json("explain", "100.64.3.7", "--at", then)
        self.assertEqual((past["customer"], past["verdict"], past["kernel_agrees"]), ("c1", "pass", None))
        self.assertEqual(self.json("explain", "100.64.3.7")["customer"], "c2")
        self.assertEqual(self.json("explain", "100.64.3.7", "--at", "2020-01-01T00:00:00Z")["verdict"], "pass")


class Attempts(KernelCase):
    def test_items_and_filters(self):
        self.run_program("pool", "add", "100.100.0.0/16", "--action", "observe")
        self.run_program("assign", "c2", "100.100.0.1")
        hour = int(time.time()) // 3600 * 3600
        with sqlite3.connect(self.database) as session:
            for address, customer, packets in ((bytes([4, 100, 64, 3, 7]), "c1", 5), (bytes([4, 100, 100, 0, 1]), "c2", 9)):
                session.execute("INSERT INTO attempt VALUES (?, ?, ?, ?, ?, ?)",
                                (hour, address, customer, packets, int(time.time()), int(time.time())))
        items = self.listed("attempts")
        self.assertEqual([(item["customer"], item["attempts"], item["level"], item["destinations"]) for item in items],
                         [("c2", 9, None, None), ("c1", 5, None, None)])
        self.assertIn("observe", self.run_program("pool", "list").out)
        self.assertIn("let through and counted by pool 100.100.0.0/16", items[0]["reason"])
        self.assertIn("dropped by pool 100.64.0.0/10", items[1]["reason"])
        self.assertEqual(set(items[0]), {"customer", "level", "attempts", "destinations", "first_seen", "last_seen", "sources", "reason"})
        self.assertEqual([item["customer"] for item in self.listed("attempts", "--action", "observe")], ["c2"])
        self.assertEqual([item["customer"] for item in self.listed("attempts", "--pool", "100.64.0.0/10")], ["c1"])
        self.assertEqual(self.json("customer", "show", "c1")["attempts"]["attempts"], 5)
        self.assertEqual(len(self.listed("attempts", "--since", "7d")), 2)


if __name__ == "__main__":
    unittest.main()
