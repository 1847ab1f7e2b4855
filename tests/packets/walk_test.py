"""A random walk: whatever commands come in whatever order, and whatever fails meanwhile, only those pass who may. After
every step a plain reading of what the database was told is compared with real packets.

SMTPFENCE_SEED=N walks again as a failed walk did, which prints its seed and its steps; SMTPFENCE_WALK_SECONDS=N walks
longer than a minute."""

import contextlib
import os
import random
import signal
import sqlite3
import sys
import time
import unittest

from facts import BEFORE, BEHIND
from network import Network
from seed import printed_seed
from service import CONFLICT
from tracer import Tracer
from walker import Seen, Walker

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "packaging"))
import private_mounts

SECONDS = float(os.environ.get("SMTPFENCE_WALK_SECONDS", "60"))
FAILED = 1
# Seconds that the clock is ever wrong: no two times differ by ten minutes, which would be held for wrong.
FARTHEST = 250


def setUpModule():
    private_mounts.enter()


class Faults:
    """Each is a method; it ends with the fault healed and everything as it must be."""

    def __init__(self, walker):
        self.walker = walker

    def some_commands(self, dice, accepted=()):
        for _ in range(dice.randrange(3)):
            walker = self.walker
            if restless(walker):
                return
            walker.give(walker.desk.simple(dice, walker.facts, walker.clock.now()), accepted)
            walker.check("with a command under way")

    def step_clock(self, dice):
        """By minutes, back and forth."""
        ahead = dice.randrange(-FARTHEST, FARTHEST)
        self.walker.note(f"clock: {ahead - self.walker.clock.ahead:+} s")
        self.walker.clock.ahead = ahead

    def end(self, dice):
        """Killed or asked."""
        walker = self.walker
        number = dice.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        walker.note(f"service: {number.name}")
        walker.stop(number)
        walker.check("after the service's end")

    def begin(self):
        self.walker.start()
        self.walker.settle("after a start", at_once=False)

    def killed(self, dice):
        self.end(dice)
        if dice.random() < 0.5:
            self.step_clock(dice)
        self.some_commands(dice)
        self.begin()

    def killed_in_a_pass(self, dice):
        """At one of its calls to the kernel or the disk."""
        walker = self.walker
        call, number = dice.choice(("sendto", "fdatasync", "pwrite64", "write", "recvfrom,recvmmsg")), dice.randrange(1, 6)
        walker.note(f"service: SIGKILL at its {call} number {number} from now on")
        with Tracer(walker, f"{call}:signal=KILL:when={number}"):
            self.some_commands(dice)
        walker.check("after a kill in a pass")
        # A process that was hit at the tracer's end dies a moment later.
        walker.enforced(lambda: walker.process.poll() is not None or walker.caught_up(), "the revision, or its end")
        if walker.process.poll() is not None:
            walker.note("service: killed")
            walker.kill()
            walker.check("after a kill in a pass")
            self.begin()
        else:
            walker.settle("after no kill in a pass", at_once=False)

    def killed_and_flushed(self, dice):
        """The last good fence is all that is left: with no database, `restore` brings it back, or the service."""
        walker = self.walker
        self.end(dice)
        walker.note("nft flush ruleset")
        walker.network.router.nft("flush", "ruleset")
        # Without the database the clock is not before the file's time: a clock that was set back ends rights early.
        walker.possible.append(Seen(walker.facts, walker.subscriber, FARTHEST))
        with self.database_away():
            if dice.random() < 0.5:
                walker.note("smtpfence restore")
                walker.command("restore")
            else:
                walker.start()
            walker.check("restored without a database")
        if not walker.process:
            walker.start()
        walker.settle("after a restored fence", at_once=False)

    @contextlib.contextmanager
    def database_away(self):
        walker = self.walker
        walker.note("database: away")
        moved = [path for path in (walker.database + ending for ending in ("", "-wal", "-shm")) if os.path.exists(path)]
        for path in moved:
            os.rename(path, path + ".away")
        yield
        for path in reversed(moved):
            os.rename(path + ".away", path)
        walker.note("database: back")

    def lost_database(self, dice):
        walker = self.walker
        restarted = dice.random() < 0.5
        with self.database_away():
            time.sleep(dice.random())
            walker.check("with the database away")
            if restarted:
                self.end(dice)
                walker.start()
            else:
                walker.process.send_signal(signal.SIGHUP)
            walker.check("with the database away")
        walker.settle("after the database's return", at_once=False)

    def locked_database(self, dice):
        walker = self.walker
        walker.note("database: locked")
        connection = sqlite3.connect(walker.database, timeout=15, isolation_level=None)
        with contextlib.closing(connection):
            connection.execute("BEGIN EXCLUSIVE")
            time.sleep(dice.random())
            if dice.random() < 0.3:
                self.end(dice)
                walker.start()
            walker.check("with a locked database")
            connection.execute("ROLLBACK")
        walker.settle("after the lock", at_once=False)

    @contextlib.contextmanager
    def full(self, folder):
        filler = os.path.join(folder, "filler")
        self.walker.note(f"disk full: {os.path.basename(folder)}")
        with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1 << 12)):
                pass
        yield
        os.unlink(filler)
        self.walker.note("disk: free again")

    def full_state_directory(self, dice):
        """No change is held up by it, only its report."""
        walker = self.walker
        with self.full(walker.state):
            self.some_commands(dice)
            walker.settled()
            walker.becomes_right("with a full state directory")
            if dice.random() < 0.3:
                self.end(dice)
                walker.start()
                walker.becomes_right("with a full state directory")
        walker.settle("after a full state directory", at_once=False)

    def full_database(self, dice):
        walker = self.walker
        with self.full(os.path.dirname(walker.database)):
            self.some_commands(dice, accepted=(FAILED,))
            walker.check("with a full database")
        walker.settle("after a full database", at_once=False)

    def refused_calls(self, dice):
        """What the kernel answers is an error, once or a few times running."""
        walker = self.walker
        call, first = dice.choice(("sendto", "recvfrom,recvmmsg", "sendto,recvfrom,recvmmsg")), dice.randrange(1, 4)
        error = dice.choice(("EPERM", "ENOBUFS", "EAGAIN", "EINTR", "ERESTART", "ENOMEM"))
        # strace counts each of the calls by itself: three tries fail at most, whose pauses (0.1, 0.2, 0.4, ... s) are over
        # within the patience of settle().
        last = first + dice.randrange(3 if "," not in call else 1)
        injection = f"{call}:error={error}:when={first}..{last}"
        walker.note(f"service: {injection}")
        with Tracer(walker, injection):
            if dice.random() < 0.5:
                walker.process.send_signal(signal.SIGHUP)
            self.some_commands(dice)
            walker.settle("under refused calls", at_once=False)
        walker.settle("after refused calls", at_once=False)

    def refused_disk(self, dice):
        walker = self.walker
        call = dice.choice(("pwrite64", "fdatasync,fsync", "write,pwrite64", "rename"))
        walker.note(f"service: ENOSPC at its next calls of {call}")
        with Tracer(walker, f"{call}:error=ENOSPC:when=1..{dice.randrange(2, 9)}"):
            self.some_commands(dice)
        walker.settle("after a refused disk", at_once=False)

    def clock(self, dice):
        """The service sets the ends anew at once, while a command may be under way that changes nothing."""
        self.step_clock(dice)
        self.walker.possible.append(self.walker.wanted())
        if dice.random() < 0.3:
            self.some_commands(dice)
        self.walker.settle("after a step of the clock", at_once=False)

    def reloaded(self, dice):
        walker = self.walker
        interfaces = dice.choice((("bng0", "vlan*"), ("vlan*",)))
        walker.note(f"SIGHUP: subscriber interfaces {interfaces}, confirmed")
        walker.write_configuration(interfaces)
        walker.possible.append(walker.wanted())
        walker.said.clear()
        walker.process.send_signal(signal.SIGHUP)
        walker.wait_until_said("READY=1")
        walker.check("after a reload")
        walker.command("apply", "--confirm")
        walker.settle("after a confirmed reload")

    def applied(self, _dice):
        self.walker.note("smtpfence apply")
        self.walker.command("apply")
        self.walker.settle("after apply")

    def rivals(self, _dice):
        """A second service, and a removal, are refused."""
        self.walker.note("smtpfence run, smtpfence clear --yes beside the service")
        self.walker.command("run", code=CONFLICT)
        self.walker.command("clear", "--yes", code=CONFLICT)
        self.walker.check("after a second service")

    def foreign(self, dice):
        """Somebody else's nft: refused where the table is owned, put right where not."""
        walker, owned = self.walker, self.walker.owned()
        words = dice.choice((
            "flush ruleset", "add table inet other", "flush chain inet smtpfence outbound",
            "flush map inet smtpfence pool4", "delete table inet smtpfence", "add rule inet smtpfence border accept",
            "insert rule inet smtpfence border drop", "add element inet smtpfence exempt4_32 { 100.64.30.1 }",
            "add element inet smtpfence relay6 { 2001:db8:f::25 }", "add chain inet smtpfence stranger"))
        done = walker.network.router.run("nft", words, check=False)
        walker.note(f"nft {words}, {'owned' if owned else 'not owned'}: exit {done.returncode}")
        if owned:
            walker.check("after somebody else's change of an owned table")
            self.some_commands(dice)
        walker.settle("after somebody else's change", at_once=False)

    def owner(self, dice):
        """The table is made anew by somebody else, so that nobody can own it; or by the service."""
        walker = self.walker
        self.end(dice)
        others = dice.random() < 0.7
        walker.note(f"smtpfence clear{'; nft add table inet smtpfence' if others else ''}")
        walker.command("clear", "--yes")
        if others:
            walker.network.router.nft("add", "table", "inet", "smtpfence")
        self.begin()


def restless(walker):
    """Whether a right ends just now."""
    time_now = walker.clock.now()
    return any(time_now - BEHIND < end < time_now + BEFORE for end in walker.facts.ends())


class RandomWalk(unittest.TestCase):
    def setUp(self):
        self.network = Network()
        self.addCleanup(self.network.close)
        self.walker = Walker(self.network)
        self.addCleanup(self.walker.close)

    def command(self, dice):
        walker = self.walker
        command = walker.desk.draw(dice, walker.facts, walker.clock.now())
        waits = command.words[0] in ("assign", "release", "exempt")
        if waits:
            command.words += ["--wait", "20s"]
        code = walker.give(command)
        if waits and code == 0:  # it says that it is enforced: so it is
            walker.settled()
            walker.check("after a command that was enforced")
        else:
            walker.settle("after a command")

    def test_only_those_pass_who_may(self):
        seed, walker = printed_seed(), self.walker
        faults = Faults(walker)
        kinds = [name for name in sorted(vars(Faults)) if name not in
                 ("__init__", "some_commands", "step_clock", "end", "begin", "database_away", "full")
                 and not name.startswith("__")]
        walker.populate().start()
        walker.settle("after the first start")
        end, bag, rounds, number = time.monotonic() + SECONDS, [], 0, 0
        try:
            while time.monotonic() < end or rounds < 1:
                if restless(walker):
                    walker.check("while rights end")
                    time.sleep(0.2)
                    continue
                dice, number = random.Random(f"{seed} {number}"), number + 1
                if dice.random() < 0.6:
                    self.command(dice)
                    continue
                if not bag:
                    bag = dice.sample(kinds, len(kinds))
                kind = bag.pop()
                walker.note(f"fault {kind}")
                getattr(faults, kind)(dice)
                rounds += not bag
        except BaseException as error:
            raise AssertionError(f"SMTPFENCE_SEED={seed}: {error}\n{walker.story()}") from error
        print(f"{len(walker.steps)} steps, {rounds} times each of {len(kinds)} faults, {walker.checks} looks: "
              f"{walker.passed} segments passed, {walker.stopped} were stopped, as they must")
        self.assertGreater(min(walker.passed, walker.stopped), 1000)


if __name__ == "__main__":
    unittest.main()
