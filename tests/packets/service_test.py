"""The service's life as packets see it: stopped, killed, restarted, reloaded, tampered with, and idle."""

import glob
import json
import os
import re
import signal
import sqlite3
import subprocess
import threading
import time
import unittest

from network import FAMILIES, PATIENCE, Namespace, Network
from packet_case import PacketCase, tcp
from service import Service, read, still

OPERATOR = """table inet operator {
    set admins { type ipv4_addr; elements = { 192.0.2.77 } }
    counter seen { }
    chain filter { type filter hook forward priority filter; policy accept; ip saddr @admins counter name seen accept; }
}
table ip smtpfence {
    chain other { comment "another family's table of the same name"
    }
}
"""


class Watch:
    """Sends segments that must be dropped and segments that must pass, without a pause, while the block runs."""

    def __init__(self, case):
        self.case, self.network = case, case.network
        closed = [tcp(a, line, a.server) for a in FAMILIES for line in (a.drop, a.stray)]
        opened = [packet for a in FAMILIES for packet in (tcp(a, a.expert, a.server), tcp(a, a.drop, a.relay))]
        self.packets = [bytes(packet) for packet in closed + opened]
        self.expected = [False] * len(closed) + [True] * len(opened)
        self.rounds, self.failure = 0, None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.probe, daemon=True)

    def __enter__(self):
        self.thread.start()
        self.until_round(1)
        return self

    def probe(self):
        try:
            while not self.ended.is_set():
                outcome = self.network.inject(self.packets, "home", "internet")
                self.rounds += 1
                if outcome.each != self.expected:
                    self.failure = f"round {self.rounds}: {outcome.each}, not {self.expected}"
                    return
        except (OSError, AssertionError) as error:
            self.failure = repr(error)

    def until_round(self, number):
        while self.rounds < number and self.thread.is_alive():
            time.sleep(0.001)

    def __exit__(self, *_):
        self.until_round(self.rounds + 10)
        self.ended.set()
        self.thread.join()
        self.case.assertIsNone(self.failure)


class ServiceCase(PacketCase):
    """A service and a network for each test."""

    @classmethod
    def setUpClass(cls):
        pass

    def setUp(self):
        self.network = Network()
        self.addCleanup(self.network.close)
        self.service = Service(self.network)
        self.addCleanup(self.service.close)
        self.service.populate()

    def fence_holds(self):
        for a in FAMILIES:
            self.dropped(tcp(a, a.drop, a.server))
            self.rejected(tcp(a, a.reject, a.server))
            self.dropped(tcp(a, a.server, a.drop, sport=25, dport=40000, flags="SA"), "internet", "home")
            self.dropped(tcp(a, a.stray, a.server))
            self.passes(tcp(a, a.expert, a.server))
            self.passes(tcp(a, a.drop, a.relay))
            self.passes(tcp(a, a.drop, a.server, dport=587))

    def reports_again(self):
        """Waits for a report that is not the backup's."""
        time_of_recovery = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.service.enforced(
            lambda: self.service.json("status")["items"][0]["verified_at"] >= time_of_recovery, "a report")

    def owned(self):
        """Whether this kernel keeps others from changing the table."""
        return "flags owner" in self.network.router.nft("list", "table", "inet", "smtpfence")


class Life(ServiceCase):
    def test_sigterm_leaves_the_rules_in_force(self):
        self.service.start()
        before = self.service.table()
        with Watch(self):
            self.assertEqual(self.service.stop(), 0)
        self.assertEqual(self.service.table(), before)
        self.fence_holds()

    def test_a_kill_and_a_restart_never_open_nor_close_and_rewrite_nothing(self):
        self.service.start()
        handles = still(self.network.router.nft("-a", "list", "table", "inet", "smtpfence"))
        said = len(self.service.journal())
        with Watch(self):
            for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
                self.service.stop(number)
                self.service.start()
                self.assertEqual(still(self.network.router.nft("-a", "list", "table", "inet", "smtpfence")), handles)
                self.service.command("plan")
        self.assertNotIn(" changes", self.service.journal()[said:])
        self.fence_holds()

    def test_what_changed_while_the_service_was_dead_holds_after_its_restart(self):
        self.service.start()
        self.service.kill()
        self.service.command("exempt", "revoke", "expert", "--reason", "abuse", "--no-wait")
        self.service.command("assign", "second", "100.64.60.1")
        self.service.command("exempt", "grant", "second", "--reason", "mail server", "--no-wait")
        for a in FAMILIES:
            self.passes(tcp(a, a.expert, a.server))
        self.service.start()
        for a in FAMILIES:
            self.dropped(tcp(a, a.expert, a.server))
        self.passes(tcp(FAMILIES[0], "100.64.60.1", FAMILIES[0].server))

    def test_an_update_of_everything_around_never_opens_nor_closes(self):
        self.service.start()
        with Watch(self):
            for number in range(5):
                self.service.command("pool", "add", f"100.72.{number}.0/24", f"2001:db8:172:{number}::/64")
                self.service.command("relay", "add", f"203.0.113.{20 + number}")
                self.service.command("assign", f"c{number}", f"100.72.{number}.1", f"2001:db8:172:{number}::1")
                self.service.command("exempt", "grant", f"c{number}", "--reason", "mail server", "--wait", "20s")
                self.service.command("exempt", "revoke", f"c{number}", "--reason", "abuse", "--wait", "20s")
                self.service.command("pool", "remove", f"100.72.{number}.0/24")

    def test_exemptions_that_outgrow_their_sets_never_open_nor_close(self):
        self.service.start()
        records = os.path.join(self.service.directory, "records.jsonl")
        with open(records, "w", encoding="ascii") as file:
            for number in range(5000):
                customer = f"bulk{number}"
                high, low = divmod(number, 250)
                for prefix in (f"100.69.{high}.{low}", f"2001:db8:{0x120 + high:x}:{low:x}00::/56"):
                    file.write(json.dumps({"op": "assign", "customer": customer, "prefix": prefix}) + "\n")
                file.write(json.dumps({"op": "exempt", "customer": customer, "reason": "mail server"}) + "\n")
        ends = [tcp(FAMILIES[0], address, FAMILIES[0].server) for address in ("100.69.0.0", "100.69.19.249")]
        ends += [tcp(FAMILIES[1], address, FAMILIES[1].server) for address in ("2001:db8:120::9", "2001:db8:133:f900::9")]
        with Watch(self):
            self.service.command("import", records, "--format", "jsonl", "--confirm")
            self.service.enforced(lambda: all(self.service.table().count(word) for word in
                                              ("100.69.19.249", "2001:db8:133:f900::")), "5000 exemptions")
        for packet in ends:
            self.passes(packet)
        self.dropped(tcp(FAMILIES[0], "100.69.19.250", FAMILIES[0].server))
        self.fence_holds()

    def test_a_second_service_and_a_removal_are_refused(self):
        self.service.start()
        with Watch(self):
            self.service.command("run", code=4)
            self.service.command("clear", "--yes", code=4)
        self.fence_holds()

    def move_database(self, old, new):
        for suffix in ("", "-wal", "-shm"):
            if os.path.exists(self.service.database + old + suffix):
                os.rename(self.service.database + old + suffix, self.service.database + new + suffix)

    def test_a_lost_database_leaves_the_rules_in_force(self):
        self.service.start()
        with Watch(self):
            self.move_database("", ".moved")
            time.sleep(1)
            self.service.process.send_signal(signal.SIGHUP)
            time.sleep(1)
        self.assertIsNone(self.service.process.poll())
        self.fence_holds()

    def lock_database(self):
        """Keeps everybody else out of the database until the connection is closed."""
        holder = sqlite3.connect(self.service.database, isolation_level=None)
        self.addCleanup(holder.close)
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("BEGIN IMMEDIATE")
        return holder

    def test_a_start_with_a_locked_database_is_ready_at_once_and_catches_up(self):
        self.service.start()
        self.service.kill()
        self.service.command("exempt", "revoke", "expert", "--reason", "abuse", "--no-wait")
        holder = self.lock_database()
        started = time.monotonic()
        with Watch(self):
            self.service.start(WATCHDOG_USEC="1000000")
            self.assertLess(time.monotonic() - started, 5)
            self.service.wait_until(lambda: any("STATUS=since" in line and "locked" in line for line in self.service.said),
                                    "the lock in its status")
        self.assertIn("has been locked", self.service.journal())
        holder.close()
        packet = tcp(FAMILIES[0], FAMILIES[0].expert, FAMILIES[0].server)
        self.service.enforced(lambda: not self.network.inject(packet, "home", "internet").arrived, "the revocation")
        self.service.enforced(lambda: "recovered" in self.service.journal(), "the recovery, in the journal")

    def test_a_removed_database_is_said_and_a_restored_one_followed(self):
        self.service.start()
        backup = self.service.database + ".backup"
        subprocess.run(["sqlite3", self.service.database, f".backup {backup}"], check=True)
        self.service.command("exempt", "revoke", "expert", "--reason", "abuse", "--wait", "20s")
        self.service.command("exempt", "grant", "expert", "--reason", "mail server", "--wait", "20s")
        with Watch(self):
            for suffix in ("", "-wal", "-shm"):
                if os.path.exists(self.service.database + suffix):
                    os.unlink(self.service.database + suffix)
            self.service.wait_until(lambda: any("STATUS=since" in line and "was removed" in line for line in self.service.said),
                                    "the removal in its status")
            self.assertIn("was removed while it was in use", self.service.journal())
            os.rename(backup, self.service.database)
            self.service.enforced(lambda: "recovered" in self.service.journal(), "the backup")
        self.reports_again()
        self.service.command("exempt", "revoke", "expert", "--reason", "abuse", "--wait", "20s")

    def test_a_database_replaced_beside_its_old_log_is_left_alone_until_that_is_gone(self):
        self.service.start()
        backup = self.service.database + ".backup"
        subprocess.run(["sqlite3", self.service.database, f".backup {backup}"], check=True)
        with open(backup, "rb") as file:
            content = file.read()
        with Watch(self):
            os.rename(backup, self.service.database)
            self.service.enforced(lambda: "was replaced" in self.service.journal(), "the old log's refusal")
            with open(self.service.database, "rb") as file:
                self.assertEqual(file.read(), content)
            for suffix in ("-wal", "-shm"):
                os.unlink(self.service.database + suffix)
            self.service.enforced(lambda: "recovered" in self.service.journal(), "the backup")
        self.reports_again()
        self.service.command("exempt", "revoke", "expert", "--reason", "abuse", "--wait", "20s")

    def test_a_database_that_somebody_writes_over_is_said_and_leaves_the_rules_in_force(self):
        self.service.start()
        with Watch(self):
            with open(self.service.database, "r+b") as file:
                size = os.path.getsize(self.service.database)
                file.write(b"x" * size)
            self.service.enforced(lambda: "restore it from a backup" in self.service.journal(), "the damage")
        self.fence_holds()

    def test_a_start_without_its_database_enforces_what_it_finds_and_catches_up(self):
        self.service.start()
        self.service.kill()
        self.service.command("exempt", "revoke", "expert", "--reason", "abuse", "--no-wait")
        self.move_database("", ".moved")
        with Watch(self):
            self.service.start(WATCHDOG_USEC="400000")
            self.service.said.clear()
            time.sleep(1)
            self.assertGreaterEqual(self.service.said.count("WATCHDOG=1"), 2)
        self.move_database(".moved", "")
        packet = tcp(FAMILIES[0], FAMILIES[0].expert, FAMILIES[0].server)
        self.service.enforced(lambda: not self.network.inject(packet, "home", "internet").arrived, "the revocation")


class Reload(ServiceCase):
    def reload(self):
        self.service.said.clear()
        self.service.process.send_signal(signal.SIGHUP)
        self.service.wait_until_said("RELOADING=1")
        self.service.wait_until_said("READY=1")

    def test_a_bad_configuration_keeps_the_old_one(self):
        self.service.start()
        before = self.service.table()
        for bad in ("interfaces = [", "[interfaces]\nsubscribers = []\n", "[interfaces]\naction = \"pass\"\n"):
            with open(self.service.configuration, "w", encoding="ascii") as file:
                file.write(f'database = "sqlite:{self.service.database}"\n{bad}')
            with Watch(self):
                self.reload()
            self.assertEqual(self.service.table(), before)
        self.assertIn(self.service.configuration, self.service.journal())
        self.service.configure()
        self.reload()
        self.assertEqual(self.service.table(), before)
        self.fence_holds()

    def test_a_database_that_can_not_be_keeps_the_old_one(self):
        self.service.start()
        before = self.service.table()
        for bad in ("", 'database = ""\n', 'database = "postgresql://db.example/subscribers"\n', 'database = "sqlite:"\n'):
            with open(self.service.configuration, "w", encoding="ascii") as file:
                file.write(f'{bad}router = "edge1"\nstate_directory = "{self.service.directory}/state"\n')
            with Watch(self):
                self.reload()
            self.assertIsNone(self.service.process.poll(), bad)
            self.assertEqual(self.service.table(), before)
        self.assertEqual(self.service.journal().count("reload refused"), 4)
        self.service.configure()
        self.reload()
        self.service.command("exempt", "revoke", "expert", "--reason", "abuse", "--wait", "20s")

    def test_another_database_is_followed_from_then_on(self):
        self.service.start()
        old = self.service.database
        self.service.database = os.path.join(self.service.directory, "other.db")
        subprocess.run(["sqlite3", old, f".backup {self.service.database}"], check=True)
        self.service.configure()
        self.service.command("exempt", "revoke", "expert", "--reason", "abuse", "--no-wait")
        self.reload()
        for a in FAMILIES:
            self.service.enforced(lambda a=a: not self.network.inject(tcp(a, a.expert, a.server), "home", "internet").arrived,
                                  "the other database")
        self.assertIn(f"following database sqlite:{self.service.database}", self.service.journal())
        self.service.command("exempt", "grant", "expert", "--reason", "mail server", "--wait", "20s")
        self.fence_holds()

    def test_another_database_that_can_not_be_read_keeps_the_old_one(self):
        self.service.start()
        old = self.service.database
        with open(os.path.join(self.service.directory, "none.db"), "wb"):
            pass
        for name in ("missing.db", "none.db", "log"):
            self.service.database = os.path.join(self.service.directory, name)
            self.service.configure()
            with Watch(self):
                self.reload()
                self.assertIn(f"reload refused, the old configuration stays in force: sqlite:{self.service.database}",
                          self.service.journal())
        self.assertEqual(self.service.journal().count("reload refused"), 3)
        self.service.database = old
        self.service.configure()
        self.service.command("exempt", "revoke", "expert", "--reason", "abuse", "--wait", "20s")

    def test_other_interfaces_take_effect(self):
        self.service.start()
        self.service.configure(subscriber=("vlan*",))
        self.reload()
        for a in FAMILIES:
            self.dropped(tcp(a, a.stray, a.server))
        self.service.command("apply", "--confirm")
        for a in FAMILIES:
            self.passes(tcp(a, a.stray, a.server))
            self.dropped(tcp(a, a.alien, a.server), "street")
            self.dropped(tcp(a, a.drop, a.server))
        self.service.configure(subscriber=("bng0",), action="reject")
        self.reload()
        self.service.command("apply", "--confirm")
        for a in FAMILIES:
            self.rejected(tcp(a, a.stray, a.server))
            self.passes(tcp(a, a.alien, a.server), "street")


class Neighbours(ServiceCase):
    def others(self):
        return "".join(self.network.router.nft("list", "table", family, name)
                       for family, name in (("inet", "operator"), ("ip", "smtpfence")))

    def test_other_tables_are_never_touched(self):
        self.network.router.nft("-f", "-", input=OPERATOR)
        before = self.others()
        self.service.start()
        self.service.command("exempt", "revoke", "expert", "--reason", "abuse", "--wait", "20s")
        self.service.command("exempt", "grant", "expert", "--reason", "mail server", "--wait", "20s")
        self.service.stop()
        self.service.start()
        self.assertEqual(self.others(), before)
        self.service.stop()
        self.service.command("clear", "--yes")
        self.assertEqual(self.network.router.nft("list", "tables").split("\n")[:-1],
                         ["table inet operator", "table ip smtpfence"])
        self.assertEqual(self.others(), before)

    def test_the_listing_loads_again_elsewhere_and_lists_the_same(self):
        self.service.start()
        for a in FAMILIES:
            self.dropped(tcp(a, a.drop, a.server))
        listing = re.sub(r"\n\tflags [a-z,]*\n", "\n", self.network.router.nft("list", "table", "inet", "smtpfence"))
        elsewhere = Namespace()
        self.addCleanup(elsewhere.close)
        elsewhere.nft("-f", "-", input=listing)
        self.assertEqual(still(elsewhere.nft("list", "table", "inet", "smtpfence")), still(listing))

    def test_nobody_else_changes_the_table_for_long(self):
        self.service.start()
        before = self.service.table()
        owned = self.owned()
        for words in ("delete element inet smtpfence exempt4_32 { 100.64.7.7 }",
                      "add element inet smtpfence exempt4_32 { 100.64.3.7 }",
                      "flush chain inet smtpfence outbound", "flush map inet smtpfence pool4",
                      "delete table inet smtpfence"):
            with self.subTest(words):
                done = self.network.router.run("nft", words, check=False)
                if owned:
                    self.assertNotEqual(done.returncode, 0)
                    self.assertIn("Operation not permitted", done.stderr)
                else:
                    self.assertEqual(done.returncode, 0)
                    self.service.enforced(lambda: self.service.table() == before, "healing")
                self.assertEqual(self.service.table(), before)
                self.fence_holds()

    def test_flush_ruleset_opens_nothing_where_the_table_is_owned(self):
        self.network.router.nft("-f", "-", input=OPERATOR)
        self.service.start()
        before = self.service.table()
        if self.owned():
            with Watch(self):
                self.network.router.nft("flush", "ruleset")
            self.assertEqual(self.network.router.nft("list", "tables"), "table inet smtpfence\n")
        else:
            self.network.router.nft("flush", "ruleset")
            self.service.enforced(lambda: "smtpfence" in self.network.router.nft("list", "tables"), "healing")
        self.service.enforced(lambda: self.service.table() == before, "healing")
        self.fence_holds()

    def test_what_was_changed_while_the_service_was_dead_is_put_right(self):
        self.service.start()
        before = self.service.table()
        self.service.kill()
        for words in ("delete element inet smtpfence exempt4_32 { 100.64.7.7 }",
                      "add element inet smtpfence exempt4_32 { 100.64.3.7 }",
                      "flush map inet smtpfence pool6", "flush chain inet smtpfence inbound"):
            self.network.router.nft(words)
        self.assertNotEqual(self.service.table(), before)
        self.service.start()
        self.assertEqual(self.service.table(), before)
        self.fence_holds()

    def test_a_surplus_is_not_waited_for(self):
        self.service.start()
        before = self.service.table()
        self.service.kill()
        self.network.router.nft("add element inet smtpfence exempt4_32 { 100.64.3.7 }")
        trace = os.path.join(self.service.directory, "trace")
        self.service.launcher = ("strace", "-D", "-f", "-e", "trace=clock_nanosleep", "-o", trace)
        self.service.start()
        self.assertEqual(self.service.table(), before)
        self.service.stop()
        calls = read(trace)
        self.assertIn("exited with", calls)
        pauses = [int(nanoseconds) for nanoseconds in re.findall(r"tv_nsec=(\d+)", calls)]
        self.assertLess(sum(pauses), 50_000_000)  # a busy database is waited for by the millisecond

    def test_what_ends_all_the_time_holds_up_no_start(self):
        self.service.start()
        before = self.service.table()
        self.service.kill()
        elements = ", ".join(f"100.68.{n // 250}.{n % 250} timeout {n + 4}ms" for n in range(3000))
        self.network.router.nft("-f", "-", input=f"add element inet smtpfence exempt4_32 {{ {elements} }}\n")
        self.service.start()
        self.assertEqual(self.service.table(), before)

    def test_what_was_written_around_the_change_log_is_found_by_a_restart(self):
        self.service.start()
        packet = tcp(FAMILIES[0], FAMILIES[0].expert, FAMILIES[0].server)
        self.passes(packet)
        self.service.stop()
        subprocess.run(["sqlite3", self.service.database, "UPDATE exemption SET revoked = until - 1"], check=True)
        self.service.start()
        self.service.enforced(lambda: not self.network.inject(packet, "home", "internet").arrived, "the whole database")

    def test_a_table_that_vanished_is_brought_up_again(self):
        self.service.start()
        before = self.service.table()
        self.service.kill()
        self.network.router.nft("delete", "table", "inet", "smtpfence")
        self.service.start()
        self.assertEqual(self.service.table(), before)
        self.fence_holds()


class Following(ServiceCase):
    """With a poll of a minute, what happens sooner came by notification."""

    def test_a_commit_is_followed_without_the_poll(self):
        self.service.start()
        packet = tcp(FAMILIES[0], "100.64.60.1", FAMILIES[0].server)
        for round_ in range(3):
            self.service.command("assign", "caller", "100.64.60.1")
            self.service.command("exempt", "grant", "caller", "--reason", f"call {round_}", "--no-wait")
            committed = time.monotonic()
            self.service.enforced(lambda: self.network.inject(packet, "home", "internet").arrived, "grant")
            print(f"grant followed after {(time.monotonic() - committed) * 1000:.0f} ms")
            self.service.command("exempt", "revoke", "caller", "--reason", f"call {round_}", "--no-wait")
            self.service.enforced(lambda: not self.network.inject(packet, "home", "internet").arrived, "revocation")

    def test_another_program_that_writes_the_database_is_followed(self):
        self.service.start()
        subprocess.run(["sqlite3", self.service.database, "PRAGMA wal_checkpoint(TRUNCATE)"], check=True,
                       capture_output=True)
        self.service.command("pool", "set", "100.66.0.0/16", "--action", "drop")
        packet = tcp(FAMILIES[0], FAMILIES[0].observe, FAMILIES[0].server)
        self.service.enforced(lambda: not self.network.inject(packet, "home", "internet").arrived, "pool set")

    def test_an_idle_service_sleeps(self):
        self.service.start()
        before, ticks, written = self.settled(), self.ticks(), self.data_version()
        time.sleep(3)
        self.assertLess(self.woken(before), 10)
        self.assertLessEqual(self.ticks() - ticks, 3)
        self.assertLessEqual(self.data_version() - written, 2)

    def test_an_idle_service_sleeps_while_attempts_are_counted(self):
        self.service.start()
        self.settled()
        for number in range(200):
            self.dropped(tcp(FAMILIES[0], f"100.64.61.{number}", FAMILIES[0].server))
        before, ticks = self.wakeups(), self.ticks()
        deadline = time.monotonic() + 20
        while sum(len(item["sources"]) for item in self.service.json("attempts")["items"]) < 200:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(1)
        time.sleep(2)
        self.assertLess(self.woken(before), 40)
        self.assertLessEqual(self.ticks() - ticks, 10)

    def test_traffic_does_not_wake_the_service(self):
        self.service.start()
        before = self.settled()
        with Watch(self):
            time.sleep(1)
        self.assertLess(self.woken(before), 10)

    def wakeups(self):
        """How often each of the service's threads has fallen asleep."""
        counts = {thread: re.search(r"^voluntary_ctxt_switches:\s+(\d+)", read(f"{thread}/status"), re.MULTILINE)
                  for thread in glob.glob(f"/proc/{self.service.process.pid}/task/*")}
        return {thread: int(count[1]) for thread, count in counts.items() if count}

    def woken(self, before):
        """How often all of them have since."""
        return sum(count - before.get(thread, 0) for thread, count in self.wakeups().items())

    def settled(self):
        """Waits until none has for a second: what a start left to do is done then. Their wake-ups."""
        first = before = self.wakeups()
        since = time.monotonic()
        deadline = since + PATIENCE
        while time.monotonic() < since + 1:
            self.assertLess(time.monotonic(), deadline, f"the service does not come to rest: its threads woke {first} "
                            f"times at first, {before} by now\n{self.service.journal()}")
            time.sleep(0.05)
            if self.wakeups() != before:
                before, since = self.wakeups(), time.monotonic()
        return before

    def ticks(self):
        """Of the processor, all threads together."""
        with open(f"/proc/{self.service.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def data_version(self):
        """Grows with each commit by anybody."""
        if not hasattr(self, "connection"):
            self.connection = sqlite3.connect(self.service.database)
            self.addCleanup(self.connection.close)
        return self.connection.execute("PRAGMA data_version").fetchone()[0]


if __name__ == "__main__":
    unittest.main()
