"""A table that nobody owns is flushed under the service, as on kernels without owner flags: how long the hole is, as
SYNs see it, and that everything comes back."""

import os
import re
import threading
import time
import unittest

from network import FAMILIES
from packet_case import tcp
from service_test import ServiceCase

FEW, MANY = 5_000, 100_000
SEQUENCE = 20 + 4  # of a segment, in its packet without options
NAMED = r"drift: \d+ differences? in the kernel .* put right; nftables was changed by nft \(process \d+\)"


class Flood:
    """SYNs of a fenced line at the highest rate that this machine gives. Each has its number as its sequence number (no
    router looks at a segment's checksum), so that what leaked tells when it was sent."""

    def __init__(self, case):
        self.wire, self.far = case.network.wire("home"), case.network.wire("internet")
        self.packet = bytes(tcp(FAMILIES[0], FAMILIES[0].drop, FAMILIES[0].server))
        self.times, self.ended = [], threading.Event()
        self.thread = threading.Thread(target=self.send, daemon=True)

    def __enter__(self):
        self.far.waiting()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def send(self):
        before, behind = self.packet[:SEQUENCE], self.packet[SEQUENCE + 4:]
        while not self.ended.is_set():
            number = len(self.times).to_bytes(4, "big")
            self.times.append(time.monotonic())
            self.wire.send(before + number + behind)

    def leaked(self):
        """The numbers of those that came out since the last call."""
        return [int.from_bytes(packet[SEQUENCE:SEQUENCE + 4], "big") for packet in self.far.waiting()
                if packet[12:24] == self.packet[12:24]]


class Healing(ServiceCase):
    def setUp(self):
        super().setUp()
        self.network.router.nft("add", "table", "inet", "smtpfence")  # can't gain an owner from then on

    def table(self):
        """What the table holds, in no order (a set that was made anew lists its elements in another one), and without
        the comment that setUp's table lacks."""
        return sorted(re.sub(r'\n\tcomment "[^"]*"\n', "\n", self.service.table()).replace(",", " ").split())

    def settled_table(self):
        """As table(); while the kernel still resizes a large set, a dump loses elements and repeats others."""
        listings = [self.table()]
        self.service.enforced(lambda: listings.append(self.table()) or listings[-1] == listings[-2], "a settled table")
        return listings[-1]

    def drift(self):
        item, = self.service.json("status")["items"]
        return item["drift_healed"]

    def heals(self, words):
        """Somebody's `nft WORDS`, and everything is as before, counted and named."""
        before, drift, said = self.table(), self.drift(), len(self.service.journal())
        self.network.router.nft(*words.split())
        self.service.enforced(lambda: self.table() == before, f"healing after nft {words}")
        self.service.enforced(lambda: self.drift() > drift, "drift counted")
        self.assertRegex(self.service.journal()[said:], NAMED)

    def hole(self, count):
        self.service.import_bulk(range(count))
        self.service.start()
        before, drift = self.settled_table(), self.drift()
        with Flood(self) as flood:
            self.service.enforced(lambda: len(flood.times) > 1000, "a flood")
            self.assertEqual(flood.leaked(), [])
            self.network.router.nft("flush", "ruleset")
            self.service.enforced(lambda: self.drift() > drift, "drift counted")
            sent = len(flood.times)
            self.service.enforced(lambda: len(flood.times) > sent + 1000, "a flood")
        leaked = flood.leaked()
        self.service.enforced(lambda: self.table() == before, "healing")
        self.assertRegex(self.service.journal(), NAMED)
        milliseconds = (flood.times[leaked[-1]] - flood.times[leaked[0]]) * 1000 if leaked else 0
        rate = len(flood.times) / (flood.times[-1] - flood.times[0])
        print(f"{count} exemptions, flush ruleset: a hole of {milliseconds:.1f} ms, through which {len(leaked)} SYNs "
              f"leaked of {rate:.0f} a second")
        self.assertNotIn(sent, leaked)
        self.fence_holds()

    def test_the_hole_of_a_flush_with_few_exemptions(self):
        self.hole(FEW)

    def test_the_hole_of_a_flush_with_many_exemptions(self):
        self.hole(MANY)

    def test_whatever_somebody_changes_is_put_right_and_named(self):
        self.service.start()
        self.assertFalse(self.owned())
        for words in ("delete element inet smtpfence exempt4_32 { 100.64.7.7 }",
                      "add element inet smtpfence exempt4_32 { 100.64.3.7 }",
                      "add element inet smtpfence exempt4_32 { * }",
                      "add table inet smtpfence { flags dormant ; }",
                      "flush map inet smtpfence pool4",
                      "flush chain inet smtpfence outbound",
                      "add rule inet smtpfence border accept",
                      "add chain inet smtpfence stranger"):
            with self.subTest(words):
                self.heals(words)
                self.fence_holds()

    def test_what_is_damaged_while_nobody_watches_is_mended_without_the_database(self):
        self.service.start()
        kept = os.path.join(self.service.directory, "state", "fence")
        self.service.enforced(lambda: os.path.exists(kept), "the last good fence on disk")
        self.service.kill()
        for words in ("flush map inet smtpfence pool4", "flush chain inet smtpfence outbound",
                      "add table inet smtpfence { flags dormant ; }"):
            self.network.router.nft(*words.split())
        os.rename(self.service.database, self.service.database + ".away")
        self.service.start()  # READY with the fence in force, whatever the database
        self.assertIn("the kernel lacked a part of the fence", self.service.journal())
        self.fence_holds()

    def test_a_catch_all_that_was_added_while_nobody_watched_goes(self):
        self.service.start()
        before = self.table()
        self.service.kill()
        self.network.router.nft(*"add element inet smtpfence exempt4_32 { * }".split())
        self.service.start()
        self.service.enforced(lambda: self.table() == before, "the catch-all gone")
        self.fence_holds()

    def test_after_a_flush_the_table_has_an_owner_where_the_kernel_knows_one(self):
        self.service.start()
        self.heals("flush ruleset")
        notes = self.service.json("status")["items"][0]["notes"]
        self.assertEqual(self.owned(), "owner and persist flags: yes" in notes)
        self.fence_holds()


if __name__ == "__main__":
    unittest.main()
