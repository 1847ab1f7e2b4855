"""The service beside a clock that somebody sets, in a machine of its own: the kernel says itself whether it is
synchronised."""

import ctypes
import re
import sqlite3
import time

from kernel_test import KernelCase, nft, setUpModule  # noqa: F401 (unittest calls it)
from program import NOT_ENFORCED

YEAR = 365 * 86400
STA_UNSYNC, ADJ_STATUS, ADJ_MAXERROR, ADJ_ESTERROR = 0x40, 0x10, 0x4, 0x8


class Timex(ctypes.Structure):
    """struct timex of adjtimex(2), up to what is set here; the kernel writes it all."""
    _fields_ = [("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long),
                ("maxerror", ctypes.c_long), ("esterror", ctypes.c_long), ("status", ctypes.c_int),
                ("rest", ctypes.c_char * 256)]


def synchronise():
    """What an NTP daemon says to the kernel."""
    libc = ctypes.CDLL(None, use_errno=True)
    state = Timex(modes=ADJ_STATUS | ADJ_MAXERROR | ADJ_ESTERROR, maxerror=1000, esterror=1000, status=0)
    if libc.adjtimex(ctypes.byref(state)) < 0:
        raise OSError(ctypes.get_errno(), "adjtimex")


def step(seconds):
    """Sets the clock, as `date -s` does: the kernel then calls it unsynchronised."""
    time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)


class Clock(KernelCase):
    def setUp(self):
        super().setUp()
        self.run_program("exempt", "grant", "c1", "--reason", "runs a server", "--for", "30d", "--no-wait")
        self.shift = 0
        self.addCleanup(lambda: step(-self.shift))

    def set_clock(self, seconds):
        self.shift += seconds
        step(seconds)

    def until(self, condition, what):
        deadline = time.monotonic() + 60
        while not condition():
            self.assertIsNone(self.service.poll(), self.journal())
            self.assertLess(time.monotonic(), deadline, f"{what}\n{self.journal()}")
            time.sleep(0.05)

    def expires(self, prefix):
        """In how many days the kernel ends the right; None: it holds none."""
        found = re.search(re.escape(prefix) + r" timeout \S+ expires (?:(\d+)d)?\S+", nft("list", "table", "inet", "smtpfence"))
        return int(found[1] or 0) if found else None

    def warnings(self):
        status, = self.listed("status")
        about = [words for words in status["warnings"] if "clock" in words]
        self.assertTrue(status["live"] or not about)
        return about

    def test_a_clock_set_by_a_year_is_held_until_it_is_synchronised(self):
        for direction, words in ((YEAR, "ahead of"), (-YEAR, "behind")):
            with self.subTest(words):
                self.start()
                self.assertEqual(self.warnings(), [])
                self.set_clock(direction)
                self.until(self.warnings, "the warning")
                self.assertIn(f"the clock is 365d {words} what it was, since ", self.warnings()[0])
                self.assertIn(self.warnings()[0], self.journal())
                self.assertEqual(self.expires("100.64.3.7"), 29)
                self.run_program("exempt", "revoke", "c1", "--reason", "while it is held", "--wait", "50s")
                self.assertIsNone(self.expires("100.64.3.7"))
                asked = ("exempt", "grant", "c1", "--reason", "while it is held", "--wait", "50s", "--for", "30d")
                if direction > 0:
                    self.run_program(*asked)
                    self.assertEqual(self.expires("100.64.3.7"), 394)
                else:
                    self.assertIn("not enforced on edge1 (clock: there it is ", self.run_program(*asked, code=NOT_ENFORCED).out)
                    self.assertIsNone(self.expires("100.64.3.7"))
                synchronise()
                self.until(lambda: self.expires("100.64.3.7") == 29, "the new clock")
                self.until(lambda: self.warnings() == [], "no warning")
                self.assertIn("is taken, as it is synchronised", self.journal())
                self.run_program("plan")
                self.stop()

    def test_a_clock_that_is_set_right_again_changed_nothing(self):
        self.start()
        for direction in (YEAR, -YEAR):
            self.set_clock(direction)
            self.until(self.warnings, "the warning")
            self.set_clock(-direction)
            self.until(lambda: self.warnings() == [], "no warning")
            self.assertEqual(self.expires("100.64.3.7"), 29)
            self.run_program("plan")
        self.assertEqual(len(re.findall(r"revision \d+ enforced: ", self.journal())), 1)  # at the start

    def test_a_step_of_minutes_or_of_an_ntp_daemon_is_taken_at_once(self):
        self.start()
        self.set_clock(300)
        self.until(lambda: "the clock was set forward by 5m: the ends of rights are set anew" in self.journal(), "minutes")
        self.set_clock(-300)
        self.until(lambda: "the clock was set back by 5m" in self.journal(), "minutes back")
        self.assertEqual(self.warnings(), [])
        self.run_program("plan")

    def test_a_machine_that_wakes_long_ago_goes_by_the_last_good_fence(self):
        with sqlite3.connect(self.database) as session:  # ended meanwhile by the clock from before
            session.execute("UPDATE exemption SET until = ?", (int(time.time()) + 4,))
        self.start()
        self.until(lambda: self.expires("100.64.3.7") is None, "the end")
        self.run_program("pool", "add", "100.65.0.0/16")
        self.run_program("assign", "c2", "100.65.0.1")
        self.run_program("exempt", "grant", "c2", "--reason", "x", "--for", "30d", "--wait", "50s")
        self.stop()
        nft("delete", "table", "inet", "smtpfence")
        self.set_clock(-YEAR)
        self.run_program("restore")
        self.start()
        self.until(self.warnings, "the warning")
        self.assertIn("the clock is 365d behind what it was", self.warnings()[0])
        self.run_program("apply")
        self.assertIsNone(self.expires("100.64.3.7"))
        self.assertEqual(self.expires("100.65.0.1"), 29)
        self.stop()
        nft("delete", "table", "inet", "smtpfence")
        self.start()
        self.run_program("apply")
        self.assertIsNone(self.expires("100.64.3.7"))
        self.assertEqual(self.expires("100.65.0.1"), 29)
        self.set_clock(YEAR)
        self.until(lambda: self.warnings() == [], "no warning")
        self.assertEqual(self.expires("100.65.0.1"), 29)
        self.run_program("plan")
