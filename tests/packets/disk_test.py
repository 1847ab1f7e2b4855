"""A disk that takes its time, and a database that somebody else writes to all the time: neither holds up what changes in
the kernel."""

import contextlib
import sqlite3
import threading
import time
import unittest

from network import FAMILIES
from packet_case import tcp
from service_test import ServiceCase
from tracer import Tracer
from walker import NOT_ENFORCED

V4 = FAMILIES[0]
STALLED = "fdatasync:delay_enter=600000000"  # microseconds: until the tracer ends


class Disk(ServiceCase):
    def setUp(self):
        super().setUp()
        for number in (1, 2):
            self.service.command("assign", f"c{number}", f"100.64.61.{number}")
        self.service.start()
        self.packets = {number: tcp(V4, f"100.64.61.{number}", V4.server) for number in (1, 2)}

    def status(self):
        return self.service.json("status")["items"][0]

    def toggle(self, verb, number, *wait, code=0):
        self.service.command("exempt", verb, f"c{number}", "--reason", "a test", *wait, code=code)

    def test_changes_reach_the_kernel_while_the_disk_stalls_and_revocations_are_reported_behind_it(self):
        self.toggle("grant", 1)
        with Tracer(self.service, STALLED):
            self.toggle("revoke", 1, "--wait", "1s", code=NOT_ENFORCED)
            self.dropped(self.packets[1])
            self.toggle("grant", 2, "--wait", "1s", code=NOT_ENFORCED)  # its revision holds the revocation, too
            self.passes(self.packets[2])
            self.toggle("revoke", 2, "--no-wait")
            self.service.enforced(lambda: not self.network.inject(self.packets[2], "home", "internet").arrived, "c2 revoked")
            self.service.enforced(lambda: "has not reached the disk for 5 s" in (self.status()["error"] or ""), "the error")
            self.assertLess(self.status()["revision"], self.status()["desired_revision"])
            self.assertTrue(self.status()["live"])
        self.service.enforced(lambda: self.status()["revision"] == self.status()["desired_revision"], "the report")
        self.service.enforced(lambda: not self.status()["error"], "no error")
        self.toggle("grant", 1)
        self.fence_holds()

    def test_what_is_revoked_while_the_disk_stalls_is_on_disk_when_it_is_reported(self):
        self.toggle("grant", 1)
        with Tracer(self.service, STALLED):
            self.toggle("revoke", 1, "--no-wait")
            self.service.enforced(lambda: not self.network.inject(self.packets[1], "home", "internet").arrived, "revoked")
        self.service.enforced(lambda: self.status()["revision"] == self.status()["desired_revision"], "the report")
        self.service.kill()
        self.network.router.nft("delete", "table", "inet", "smtpfence")
        self.service.command("restore")
        self.dropped(self.packets[1])
        self.passes(tcp(V4, V4.expert, V4.server))

    def test_beside_a_database_that_is_mostly_locked_everything_is_enforced_and_apply_is_answered_once(self):
        over = threading.Event()

        def write():
            with contextlib.closing(sqlite3.connect(self.service.database, isolation_level=None, timeout=60)) as session:
                while not over.is_set():
                    session.execute("BEGIN IMMEDIATE")
                    time.sleep(0.02)
                    session.execute("ROLLBACK")
                    time.sleep(0.01)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for verb, judged in (("grant", self.passes), ("revoke", self.dropped)) * 3:
                self.toggle(verb, 1, "--wait", "60s")
                judged(self.packets[1])
            self.service.command("apply")
        finally:
            over.set()
            writer.join()
        self.assertEqual(self.service.journal().count("apply requested by"), 1)
        self.assertNotIn("can't report", self.service.journal())
        self.fence_holds()


if __name__ == "__main__":
    unittest.main()
