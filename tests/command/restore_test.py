"""The fence without its database: brought back at boot from the last good one, and kept as it is while the database or
the disk fails."""

import contextlib
import hashlib
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import time
import unittest

import kernel_test
from guard_test import RELAY, V4, V6, RouterCase, customers, records
from kernel_test import nft
from program import CONFLICT, FAILED, NOT_ENFORCED, PATIENCE

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "packaging"))
import private_mounts

BOOT = '[boot]\npools = ["100.64.0.0/10"]\nrelays = ["203.0.113.99"]\n'


def setUpModule():
    kernel_test.setUpModule()
    private_mounts.enter()


def snapshot(body, length=None, digest=None, version=1):
    """A file of the last good fence with one record."""
    digest = digest or hashlib.sha256(body.encode()).hexdigest()
    return f"smtpfence fence {version}\nrecord {len(body) if length is None else length:020d} {digest}\n{body}"


class RestoreCase(RouterCase):
    """A router that had its fence applied, and is booted: no table, no database."""

    def setUp(self):
        super().setUp()
        self.run_program("apply")
        self.run_program("assign", "c2", "100.64.3.8")
        self.run_program("exempt", "grant", "c2", "--reason", "own server", "--no-wait")
        self.run_program("apply")
        self.fence, self.older = self.path("state/fence"), self.path("state/fence.previous")

    def boot(self):
        nft("flush", "ruleset")
        self.database_url = f"sqlite:{self.path('none.db')}"

    def rights(self):
        return [address for address in ("100.64.3.7", "100.64.3.8") if f"{address} " in self.elements("exempt4")]


class Restore(RestoreCase):
    def test_without_a_database(self):
        before = [self.elements(name) for name in ("pool", "relay")]
        self.boot()
        done = self.run_program("restore")
        self.assertIn("is in force", done.out)
        self.assertEqual(done.err, "")
        self.assertEqual([self.elements(name) for name in ("pool", "relay")], before)
        self.assertEqual(self.rights(), ["100.64.3.7", "100.64.3.8"])
        self.assertIn("2001:db8:100:700::", self.elements("exempt6"))
        self.assertIn("chain border", nft("list", "table", "inet", "smtpfence"))
        self.assertEqual(self.json("restore")["changes"], 0)
        self.fenced()

    def test_without_a_configuration(self):
        self.boot()
        script = 'mount -t tmpfs none /var/lib; cp -a "$0" /var/lib/smtpfence; exec "$@"'
        elsewhere = ("unshare", "--mount", "--propagation", "unchanged", "sh", "-ec", script, self.path("state"))
        for content in ("[nonsense", None):
            with self.subTest(configuration=content):
                self.write("config.toml", content or "")
                if content is None:
                    os.unlink(self.configuration)
                self.assertIn("the last good fence in /var/lib/smtpfence is used", self.run_program("restore", wrapper=elsewhere).err)
                self.fenced()
                nft("flush", "ruleset")

    def test_rights_that_ended_meanwhile_do_not_come_back(self):
        self.run_program("exempt", "renew", "c2", "--reason", "for a moment", "--for", "2s", "--no-wait")
        self.run_program("apply")
        self.boot()
        time.sleep(2.1)
        self.run_program("restore")
        self.assertEqual(self.rights(), ["100.64.3.7"])

    def test_a_service_starts_with_it_while_the_database_is_gone(self):
        self.boot()
        url = self.database_url
        self.database_url = f"sqlite:{self.database}"
        hidden = self.path("hidden.db")
        os.rename(self.database, hidden)
        self.launch()
        self.until(lambda: V4 in self.elements("pool4"), "the last good fence")
        self.fenced()
        self.until(lambda: "No such file" in self.journal(), "the database is missed")
        self.assertNotEqual(url, self.database_url)
        os.rename(hidden, self.database)
        self.until(lambda: "recovered" in self.journal(), "recovered")

    def test_damage_is_said_and_the_previous_file_takes_its_place(self):
        self.boot()
        with open(self.fence, "rb") as file:
            whole = file.read()
        body = "at 1700000000\nrevision 3\n+pool 100.64.0.0/16 drop\n"
        for name, content in (
                ("a byte", whole[:150] + bytes([whole[150] ^ 1]) + whole[151:]), ("cut off", whole[:-1]), ("nothing", b""),
                ("its first line alone", whole[:18]), ("a newer version", snapshot(body, version=2)),
                ("an absurd length", snapshot(body, length=10 ** 19)), ("a negative length", snapshot(body, length=-5)),
                ("another digest", snapshot(body, digest="0" * 64)), ("no fence", os.urandom(5000)),
                ("an unknown line", snapshot(body + "+door open\n")), ("no prefix", snapshot("+pool 100.64.0.0/99 drop\n")),
                ("an endless line", snapshot("+" + "x" * 100000 + "\n")), ("no number", snapshot("at soon\n")),
                ("a far future", snapshot(f"at {10 ** 18}\n"))):
            with self.subTest(name):
                self.write("state/fence", content)
                done = self.run_program("restore")
                self.assertIn(f"{self.fence} is not used: ", done.err)
                self.assertEqual(self.rights(), ["100.64.3.7"])  # as it was before the second apply
                self.fenced()
                nft("flush", "ruleset")

    def test_what_is_no_file_is_not_read(self):
        self.boot()
        hostile = {"a link": lambda: os.symlink("/etc/passwd", self.fence), "a directory": lambda: os.mkdir(self.fence),
                   "a pipe": lambda: os.mkfifo(self.fence), "a terabyte": lambda: os.truncate(self.write("state/fence", ""), 1 << 40)}
        for name, make in hostile.items():
            with self.subTest(name):
                if os.path.isdir(self.fence):
                    os.rmdir(self.fence)
                else:
                    os.unlink(self.fence)
                make()
                began = time.monotonic()
                self.assertIn(self.fence, self.run_program("restore").err)
                self.assertLess(time.monotonic() - began, 10)
                self.fenced()
                nft("flush", "ruleset")

    def test_changes_after_the_damage_are_left_out_and_those_before_it_are_not(self):
        self.boot()
        with open(self.fence, "ab") as file:
            file.write(b"record 0000")
        done = self.run_program("restore")
        self.assertIn("the changes before it are used", done.err)
        self.assertEqual(self.rights(), ["100.64.3.7", "100.64.3.8"])

    def test_with_nothing_usable_boot_is_the_fence_or_it_fails_loudly(self):
        self.boot()
        for name in ("fence", "fence.previous"):
            self.write(f"state/{name}", "damaged")
        said = self.run_program("restore", code=FAILED).err
        self.assertIn("NOTHING IS FENCED", said)
        self.assertEqual(said.count("is not used"), 2)
        self.assertEqual(nft("list", "tables"), "")
        self.configure(BOOT)
        self.assertIn("[boot]", self.run_program("restore").out)
        self.assertIn("100.64.0.0/10 : goto consumer_drop", self.elements("pool4"))
        self.assertIn("203.0.113.99", self.elements("relay4"))
        shutil.rmtree(self.path("state"))
        nft("flush", "ruleset")
        self.assertIn("[boot]", self.run_program("restore").out)

    def test_a_clock_that_lags_behind_the_file(self):
        self.boot()
        written = int(time.time()) + 86400
        self.write("state/fence", snapshot(f"at {written}\nrevision 9\n+relay {RELAY}\n+pool {V4} drop\n"
                                           f"+exempt 100.64.3.7/32 {written - 60}\n+exempt 100.64.3.8/32 {written + 600}\n"))
        done = self.run_program("restore")
        self.assertIn("before the last good fence was written", done.err)
        self.assertEqual(self.rights(), ["100.64.3.8"])
        self.assertRegex(self.elements("exempt4"), r"100\.64\.3\.8 .*expires (10m|9m5)")

    def test_beside_a_service_it_is_refused(self):
        self.start()
        self.refused(CONFLICT, "restore", saying=str(self.service.pid))

    def test_unless_a_service_keeps_a_fence(self):
        self.start()
        self.assertIn("another process keeps a fence in force", self.run_program("restore", "--unless-kept").out)
        self.assertEqual(self.json("restore", "--unless-kept")["changes"], 0)
        self.fenced()

    def test_a_service_that_keeps_none_is_no_excuse(self):
        self.boot()
        shutil.rmtree(self.path("state"))
        self.configure(BOOT)
        self.launch()
        self.until(lambda: "on router" in self.journal(), "the service runs")
        done = self.run_program("restore", "--unless-kept", code=CONFLICT)
        self.assertIn(str(self.service.pid), done.err)
        self.assertNotIn("goto", nft("list", "ruleset"))

    def test_unless_kept_it_restores(self):
        self.boot()
        self.assertIn("the fence of revision", self.run_program("restore", "--unless-kept").out)
        self.fenced()

    def test_clear_takes_the_files_away(self):
        self.run_program("clear", "--yes")
        self.assertEqual(sorted(set(os.listdir(self.path("state"))) - {"lock"}), [])
        self.run_program("restore", code=FAILED)


class FailStatic(RouterCase):
    """Whatever happens to the database or the disk: the rules stay, rights end, and it says why and goes on by itself."""

    @contextlib.contextmanager
    def gone(self):
        names = [self.database + suffix for suffix in ("", "-wal", "-shm") if os.path.exists(self.database + suffix)]
        for name in names:
            os.rename(name, name + ".away")
        yield "subscribers.db"
        for name in names:
            os.rename(name + ".away", name)

    @contextlib.contextmanager
    def locked(self):
        with contextlib.closing(sqlite3.connect(self.database, isolation_level=None)) as session:
            session.execute("BEGIN IMMEDIATE")
            yield "locked"
            session.execute("ROLLBACK")

    @contextlib.contextmanager
    def corrupt(self):
        good = self.path("good.db")
        subprocess.run(["sqlite3", self.database, f".backup {good}"], check=True)
        with open(self.database, "r+b") as file:
            file.write(os.urandom(200000))
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.database + suffix)
        yield "subscribers.db"
        os.rename(good, self.database)

    @contextlib.contextmanager
    def too_new(self):
        with contextlib.closing(sqlite3.connect(self.database, isolation_level=None)) as session:
            known = session.execute("PRAGMA user_version").fetchone()[0]
            session.execute("PRAGMA user_version = 99")
            yield "schema version 99"
            session.execute(f"PRAGMA user_version = {known}")

    def survives(self, fault):
        self.run_program("exempt", "renew", "c1", "--reason", "server", "--for", "15s", "--no-wait")
        self.start()
        self.assertIn("100.64.3.7", self.elements("exempt4"))
        with fault as reason:
            self.until(lambda: "100.64.3.7" not in self.elements("exempt4"), "the right ends")
            self.until(lambda: reason in self.journal(), reason)
            self.fenced()
            self.assertIsNone(self.service.poll(), self.journal())
        mended = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.until(lambda: self.call("status").code == 0, "status")
        self.until(lambda: self.listed("status")[0]["heartbeat"] > mended, "heard of again")
        self.assertTrue(self.json("exempt", "grant", "c1", "--reason", "again", "--wait", "30s")["routers"][0]["enforced"])
        self.assertIn("100.64.3.7", self.elements("exempt4"))
        self.fenced()

    def test_database_gone(self):
        self.survives(self.gone())

    def test_database_locked(self):
        self.survives(self.locked())

    def test_database_corrupt(self):
        self.survives(self.corrupt())

    def test_schema_too_new(self):
        self.survives(self.too_new())

    def test_disk_full(self):
        os.mkdir(self.path("state"))
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", self.path("state")], check=True)
        self.addCleanup(subprocess.run, ["umount", "--lazy", self.path("state")], check=True)
        self.addCleanup(self.stop)
        everybody = range(1024, 1524)
        self.load(*customers(everybody.start, len(everybody), reason="own server"))
        self.start()
        with open(self.path("state/filler"), "wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(512))
        self.run_program("import", "-", "--format", "jsonl", input=records(
            *({"op": "revoke", "customer": f"bulk{number}", "reason": "abuse"} for number in everybody)))
        self.until(lambda: "100.64.4.1" not in self.elements("exempt4"), "revoked in the kernel")
        self.until(lambda: self.listed("status")[0]["error"], "the error")
        item = self.listed("status")[0]
        self.assertLess(item["revision"], item["desired_revision"])
        self.assertIn("No space left on device", item["error"])
        self.assertIn("No space left on device", self.journal())
        answer = self.json("exempt", "revoke", "c1", "--reason", "abuse", "--wait", "1s", code=NOT_ENFORCED)
        self.assertIn("No space left on device", answer["routers"][0]["reason"])
        self.assertNotIn("100.64.3.7", self.elements("exempt4"))
        os.unlink(self.path("state/filler"))
        self.until(lambda: self.listed("status")[0]["lag_seconds"] == 0, "reported")
        self.assertIsNone(self.listed("status")[0]["error"])
        self.stop()
        nft("flush", "ruleset")
        self.run_program("restore")
        self.assertNotIn("100.64.", self.elements("exempt4"))
        self.fenced(V4, V6)


if __name__ == "__main__":
    unittest.main()
