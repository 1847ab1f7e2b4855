"""What would open too much of the fence at once: refused at the command line, withheld by routers, confirmed."""

import contextlib
import json
import os
import re
import signal
import sqlite3
import time
import unittest

from kernel_test import KernelCase, nft, setUpModule  # pylint: disable=unused-import
from program import CHANGES, CONFLICT, INVALID, NOT_ENFORCED, PATIENCE, ProgramCase

V4, V6 = "100.64.0.0/16", "2001:db8:100::/40"
RELAY = "203.0.113.10"


def records(*all_of):
    return "".join(json.dumps(record) + "\n" for record in all_of)


def customers(first, count, **exempt):
    """Customers with an IPv4 address each, in 100.64.0.0/16; exempt when a reason is given."""
    for number in range(first, first + count):
        yield {"op": "assign", "customer": f"bulk{number}", "prefix": f"100.64.{number >> 8}.{number & 255}"}
        if exempt:
            yield {"op": "exempt", "customer": f"bulk{number}", **exempt}


class Isp:
    """A /16 and a /40 that drop, a relay of each family."""

    def populate(self):
        self.run_program("relay", "add", RELAY, "2001:db8:ffff::10")
        self.run_program("pool", "add", V4, V6)

    def confirmations(self):
        with contextlib.closing(sqlite3.connect(self.database)) as session:
            return dict(session.execute("SELECT revision, openings FROM confirmation"))

    def load(self, *all_of, code=0, words=()):
        return self.run_program("import", "-", "--format", "jsonl", *words, input=records(*all_of), code=code)


class CommandLine(Isp, ProgramCase):
    def setUp(self):
        super().setUp()
        self.populate()

    def guarded(self, *words, opens, **options):
        """Refused with what would open; with --confirm, that is done and stored with the revision."""
        said = self.refused(CONFLICT, *words, **options).err
        self.assertIn("the guard refuses to " + opens, said)
        self.assertIn("say --confirm", said)
        self.assertEqual(self.confirmations(), {})
        self.run_program(*words, "--confirm", **options)
        self.assertIn(re.split("[,:] ", opens)[0], self.confirmations()[self.revision()])

    def test_pool_remove(self):
        self.guarded("pool", "remove", V4,
                     opens=f"release {V4}: it would release 100 % of the fenced IPv4 space at once (limit 10 %)")

    def test_a_pool_that_would_only_observe(self):
        self.guarded("pool", "set", "--all", "--action", "observe", opens=f"release {V4}, release {V6}: it would release 100 %")

    def test_a_nested_pool_that_passes(self):
        self.guarded("pool", "add", "100.64.128.0/17", "--action", "pass",
                     opens="release 100.64.128.0/17: it would release 50 % of the fenced IPv4 space")

    def test_a_wide_relay(self):
        self.configuration = self.write("config.toml", "[relay]\nwidest4 = 16\n")
        self.guarded("--config", self.configuration, "relay", "add", "100.64.0.0/17",
                     opens="release 100.64.0.0/17: it would release 50 %")

    def test_a_revert(self):
        self.run_program("pool", "add", "100.66.0.0/16")
        self.refused(CONFLICT, "revert", str(self.revision()), "--dry-run", saying="release 100.66.0.0/16")
        self.guarded("revert", str(self.revision()), opens="release 100.66.0.0/16: it would release 50 %")

    def test_half_of_all_customers_exempted_by_an_import(self):
        self.load(*customers(0, 8000))
        half = records(*customers(0, 4000, reason="own server"))
        words = ("import", "-", "--format", "jsonl")
        self.refused(CONFLICT, *words, "--dry-run", input=half, saying="3995 more: it would exempt 6.104 % of the fenced IPv4 space")
        self.run_program(*words, "--dry-run", "--confirm", input=half)
        self.assertEqual(self.confirmations(), {})
        self.guarded(*words, input=half, opens="exempt 100.64.0.0/32")
        self.assertEqual(self.confirmations()[self.revision()].count("\n"), 4000)

    def test_more_rights_than_are_asked_for_one_by_one(self):
        self.load(*customers(0, 1000, reason="own server"))
        self.refused(CONFLICT, "import", "-", "--format", "jsonl", input=records(*customers(0, 24000, reason="own server")),
                     saying="22995 more: it would exempt 35.1 % of the fenced IPv4 space")

    def test_a_truncated_import(self):
        file = records({"op": "relay", "prefix": "203.0.113.20"}, {"op": "pool", "prefix": "100.70.0.0/16"},
                       {"op": "pool", "prefix": "100.71.0.0/16"})
        replace = ("import", "-", "--format", "jsonl", "--mode", "replace", "--source", "crm")
        self.run_program(*replace, input=file)
        for cut in (len(file) - 5, file.rindex("{") + 1):
            self.refused(INVALID, *replace, input=file[:cut], saying="truncated")
        self.refused(CONFLICT, *replace, input=file[:file.rindex("{")], saying="release 100.71.0.0/16")
        self.refused(CONFLICT, *replace, input="", saying="--confirm")
        self.run_program(*replace, "--confirm", input="")
        self.assertEqual([pool["prefix"] for pool in self.listed("pool", "list")], [V4, V6])

    def test_what_is_small_narrows_or_comes_first_is_not_guarded(self):
        self.run_program("pool", "add", "192.0.2.0/24", "--action", "drop")
        self.run_program("pool", "set", "192.0.2.0/24", "--action", "observe")
        self.run_program("pool", "remove", "192.0.2.0/24")
        self.run_program("pool", "set", "--all", "--action", "reject")
        self.run_program("pool", "add", "100.99.0.0/16", "--action", "pass")
        self.run_program("pool", "remove", "100.99.0.0/16")
        self.load(*customers(0, 1000, reason="own server"))
        self.assertEqual(self.confirmations(), {})
        self.database_url = f"sqlite:{self.path('fresh.db')}"
        self.run_program("init")
        self.load({"op": "relay", "prefix": RELAY}, {"op": "pool", "prefix": "100.64.0.0/20"},
                  *customers(0, 4000, reason="own server"))

    def test_the_limits_are_the_configuration_s(self):
        words = ("pool", "set", "100.64.0.0/16", "--action", "observe")
        self.refused(CONFLICT, *words)
        lenient = self.write("config.toml", "[guard]\nmax_release_percent = 100\n")
        self.run_program("--config", lenient, *words)


class RouterCase(Isp, KernelCase):
    """A router with its fence in force, and a desk whose own guard is blind: what reaches the router by another way."""

    def setUp(self):
        super().setUp()
        self.configure()
        self.desk = self.write("desk.toml", 'router = "edge1"\n[relay]\nwidest4 = 8\n'
                               "[guard]\nmax_release_percent = 100\nmax_exempt_percent = 100\n")
        self.run_program("assign", "c1", "100.64.3.7", "2001:db8:100:700::/56")
        self.run_program("exempt", "grant", "c1", "--reason", "own server", "--no-wait")

    def configure(self, interfaces=""):
        self.write("config.toml", f'router = "edge1"\nstate_directory = "{self.path("state")}"\n'
                   f'[follow]\npoll = "1s"\n{interfaces}')

    def at_desk(self, *words, **options):
        router, self.configuration = self.configuration, self.desk
        try:
            return self.run_program(*words, **options)
        finally:
            self.configuration = router

    def empty_the_database(self):
        with contextlib.closing(sqlite3.connect(self.database)) as session, session:
            for table in ("pool", "relay", "exemption", "assignment"):
                session.execute(f"DELETE FROM {table}")

    def guard(self):
        return self.listed("status")[0]["guard"]

    def until(self, condition, what):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"{what}\n{self.journal()}")
            time.sleep(0.02)

    def until_enforced(self):
        self.until(lambda: self.listed("status")[0]["lag_seconds"] == 0, "the revision is enforced")

    def held(self):
        """Waits until something is withheld; what `status` says of it."""
        self.until(self.guard, "the guard withholds")
        return self.guard()

    def elements(self, name):
        """The elements of these maps or sets, as nft lists them; "exempt4": all rights of that family."""
        kind = "maps" if name.startswith(("pool", "subscriber")) else "sets"
        return "".join(part for part in nft("list", kind, "inet").split("\n\t}\n") if re.search(f"(map|set) {name}", part))

    def fenced(self, *prefixes):
        """The pools drop in the kernel, and the relays are reachable there."""
        for prefix in prefixes or (V4, V6):
            self.assertIn(f"{prefix} : goto consumer_drop", self.elements("pool6" if ":" in prefix else "pool4"))
        self.assertIn(RELAY, self.elements("relay4"))
        self.assertIn("2001:db8:ffff::10", self.elements("relay6"))


class Withheld(RouterCase):
    def test_an_empty_database(self):
        self.start()
        self.empty_the_database()
        self.assertIn("the guard withholds", self.run_program("apply", code=CONFLICT).err)
        guard = self.held()
        self.assertEqual(guard["openings"], [f"release {V4}", f"release {V6}"])
        self.assertIn("100 % of the fenced IPv4 space", guard["reason"])
        self.assertIn(f"apply --confirm={guard['digest']}", self.journal())
        self.assertIn("withholds since", self.run_program("status").out)
        self.fenced()
        self.assertNotIn("100.64.3.7", self.elements("exempt4"))  # the right narrows: gone
        plan = self.json("plan", code=CHANGES)
        self.assertEqual((plan["digest"], plan["withheld"]["digest"]), (guard["digest"], guard["digest"]))
        self.assertEqual(plan["items"], [])
        self.assertIn("withholds", self.run_program("apply", "--confirm=wrong", code=CONFLICT).err)
        self.fenced()
        self.run_program("apply", f"--confirm={guard['digest']}")
        self.assertNotIn(V4, self.elements("pool4"))
        self.assertIsNone(self.guard())
        self.assertIn("confirmed: release", self.journal())
        self.assertIn("the guard withholds nothing any more", self.journal())
        self.run_program("apply", "--confirm")

    def test_another_database_in_its_place(self):
        self.start()
        self.run_program("init", "--database", f"sqlite:{self.path('new.db')}")
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.database + suffix)
        os.rename(self.path("new.db"), self.database)
        self.until(lambda: "the guard withholds" in self.journal(), "withheld")
        self.fenced()

    def test_by_apply_without_a_service(self):
        self.run_program("apply")
        self.empty_the_database()
        plan = self.json("plan", code=CHANGES)
        self.assertEqual(len(plan["withheld"]["openings"]), 2)
        self.run_program("apply", code=CONFLICT)
        self.run_program("apply", "--confirm=wrong", code=CONFLICT)
        self.fenced()
        self.run_program("apply", f"--confirm={plan['digest']}")
        self.assertNotIn(V4, self.elements("pool4"))

    def test_revocations_ends_and_grants_go_on(self):
        self.start()
        self.at_desk("pool", "set", V4, "--action", "observe")
        digest = self.held()["digest"]
        self.fenced()
        self.assertTrue(self.json("exempt", "revoke", "c1", "--reason", "abuse")["routers"][0]["enforced"])
        self.assertNotIn("100.64.3.7", self.elements("exempt4"))
        self.run_program("assign", "c2", "100.64.3.8")
        granted = self.json("exempt", "grant", "c2", "--reason", "server", "--for", "10s")
        self.assertTrue(granted["routers"][0]["enforced"])
        self.assertIn("100.64.3.8", self.elements("exempt4"))
        self.until(lambda: "100.64.3.8" not in self.elements("exempt4"), "the right ended")
        self.run_program("pool", "add", "100.70.0.0/16")
        self.until_enforced()
        self.fenced(V4, V6, "100.70.0.0/16")
        self.assertEqual(self.held()["digest"], digest)

    def test_a_grant_that_is_withheld_is_answered_at_once(self):
        self.start()
        self.run_program("assign", "c9", "100.64.128.0/18")
        began = time.monotonic()
        answer = self.json("exempt", "grant", "c9", "--reason", "server", "--wait", "50s", code=NOT_ENFORCED)
        self.assertLess(time.monotonic() - began, 25)
        router = answer["routers"][0]
        self.assertFalse(router["enforced"])
        self.assertTrue(router["reason"].startswith("guard: 100.64.128.0/18 is withheld"), router)
        self.assertIn(self.guard()["digest"], router["reason"])
        self.assertIn("100.64.3.9/32", self.json("assign", "c1", "100.64.3.9", "--wait", "50s")["added"])
        self.assertIn("(guard: ", self.run_program("exempt", "renew", "c9", "--reason", "server", code=NOT_ENFORCED).out)
        told = self.run_program("explain", "100.64.128.9")
        self.assertIn("not on edge1: guard: 100.64.128.0/18 is withheld", told.err)
        self.assertIn("is blocked (drop) on this router, though by the database it is open (exempt)", told.out)
        self.assertEqual(self.run_program("explain", "100.64.3.7").err, "")
        self.run_program("exempt", "revoke", "c9", "--reason", "not this way")
        self.assertIsNone(self.guard())

    def test_half_of_all_customers_exempted_at_once(self):
        self.load(*customers(8192, 8000))
        self.start()
        self.at_desk("import", "-", "--format", "jsonl", input=records(*customers(8192, 4000, reason="own server")))
        guard = self.held()
        self.assertEqual(guard["count"], 4000)
        self.assertIn("exempt", guard["reason"])
        self.assertNotIn("IPv6", guard["reason"])
        self.assertNotIn("100.64.32.1", self.elements("exempt4"))
        self.assertIn("100.64.3.7", self.elements("exempt4"))
        self.run_program("apply", f"--confirm={guard['digest']}")
        self.assertIn("100.64.32.1", self.elements("exempt4"))

    def test_one_family_alone(self):
        self.start()
        self.at_desk("pool", "remove", V4)
        self.assertEqual(self.held()["openings"], [f"release {V4}"])
        self.fenced()

    def test_many_small_changes_are_one_large_one(self):
        self.start()
        for number in range(4):
            self.run_program("pool", "add", f"100.64.{16 * number}.0/20", "--action", "pass")  # 6.25 % each
            self.until_enforced()
        self.assertIn("within an hour", self.held()["reason"])
        self.assertIn("100.64.0.0/20 : return", self.elements("pool4"))
        self.assertNotIn("100.64.48.0/20 : return", self.elements("pool4"))

    def test_a_wide_relay(self):
        self.start()
        self.at_desk("relay", "add", "198.51.0.0/16")
        self.assertEqual(self.held()["openings"], ["relay 198.51.0.0/16"])
        self.assertNotIn("198.51.0.0", self.elements("relay4"))
        self.run_program("relay", "add", "203.0.113.20")
        self.until(lambda: "203.0.113.20" in self.elements("relay4"), "another relay")

    def test_a_subscriber_interface_that_the_configuration_loses(self):
        self.configure('[interfaces]\nsubscriber = ["bng0", "vlan*"]\n')
        self.start()
        self.configure('[interfaces]\nsubscriber = ["vlan*"]\n')
        self.service.send_signal(signal.SIGHUP)
        guard = self.held()
        self.assertEqual(guard["openings"], ['interface "bng0"'])
        self.assertIn('"bng0"', self.elements("subscriber"))
        self.run_program("apply", "--confirm")
        self.assertNotIn('"bng0"', self.elements("subscriber"))

    def test_what_was_confirmed_with_the_command_passes_on_the_router(self):
        self.start()
        self.run_program("pool", "remove", V4, "--confirm")
        self.until(lambda: V4 not in self.elements("pool4"), "released")
        self.until_enforced()
        self.assertIsNone(self.guard())

    def test_a_restart_keeps_it_withheld(self):
        self.start()
        self.at_desk("pool", "remove", V4)
        digest = self.held()["digest"]
        self.stop()
        self.run_program("plan", code=CHANGES)
        self.start()
        self.until(lambda: "the guard withholds" in self.journal(), "withheld")
        self.assertEqual(self.held()["digest"], digest)
        self.fenced()
        self.service.kill()
        self.service.wait()
        self.start()
        self.until(lambda: "the guard withholds" in self.journal(), "withheld")
        self.assertEqual(self.held()["digest"], digest)
        self.fenced()
        self.run_program("pool", "add", V4)
        self.until(lambda: self.guard() is None, "nothing is asked any more")

    def test_an_empty_database_after_a_flush(self):
        nft("add", "table", "inet", "smtpfence")  # without an owner: anybody may flush it
        self.start()
        self.empty_the_database()
        nft("delete", "table", "inet", "smtpfence")
        self.run_program("apply", code=CONFLICT)
        self.fenced()

    def test_an_empty_database_after_a_flush_and_a_kill(self):
        nft("add", "table", "inet", "smtpfence")
        self.start()
        self.service.kill()
        self.service.wait()
        self.empty_the_database()
        nft("delete", "table", "inet", "smtpfence")
        self.start()
        self.until(lambda: "the guard withholds" in self.journal(), "withheld")
        self.assertIn("the kernel held no fence", self.journal())
        self.fenced()
        self.assertEqual(len(self.held()["openings"]), 2)


if __name__ == "__main__":
    unittest.main()
