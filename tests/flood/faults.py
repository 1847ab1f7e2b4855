"""The faults of the flood rig: each a function of the rig that injects one, lets the router heal, and books what
passed meanwhile."""

import contextlib
import os
import signal
import sqlite3
import time

from service import CONFLICT
from tracer import Tracer

OPERATOR = """table inet operator {
    set admins { type ipv4_addr; elements = { 192.0.2.77, 192.0.2.78 } }
    chain filter { type filter hook forward priority filter; policy accept; ip saddr @admins accept; }
}
delete table inet operator
"""
FAR_TOO_LONG = 15.0


def healed(rig, row, started):
    rig.edge.settle()
    row.heal.append((time.monotonic() - started) * 1000)


@contextlib.contextmanager
def healing(rig, name):
    """A fault, and the time from its beginning until the router has healed."""
    with rig.ledger.fault(name) as row:
        started = time.monotonic()
        yield
        healed(rig, row, started)


def kill(rig):
    """At a moment that nobody chose, in the middle of a pass as often as not."""
    with rig.ledger.fault("kill -9, restart") as row:
        time.sleep(rig.dice.random() * 0.2)
        started = time.monotonic()
        rig.edge.kill()
        time.sleep(rig.dice.random() * 0.2)
        rig.edge.start()
        healed(rig, row, started)


def restart(rig):
    with healing(rig, "restart"):
        rig.edge.stop()
        rig.edge.start()


def upgrade(rig):
    """To the other layout, whichever runs; by a clean stop or a kill."""
    with healing(rig, "upgrade to another rule layout"):
        rig.dice.choice((rig.edge.stop, rig.edge.kill))()
        rig.switch_program()
        rig.edge.start()
        rig.check_layout()


def reload(rig):
    with healing(rig, "SIGHUP"):
        for _ in range(rig.dice.randrange(1, 5)):
            rig.edge.process.send_signal(signal.SIGHUP)
            time.sleep(rig.dice.random() * 0.05)


def apply(rig):
    with healing(rig, "apply beside the service"):
        code = rig.edge.attempt("apply")
        if code not in (0, 6):
            raise AssertionError(f"apply: exit {code}")


def lock_database(rig):
    with rig.ledger.fault("database locked") as row:
        connection = sqlite3.connect(rig.edge.database, timeout=FAR_TOO_LONG, isolation_level=None)
        try:
            connection.execute("BEGIN EXCLUSIVE")
            time.sleep(0.3 + rig.dice.random())
            connection.execute("ROLLBACK")
        finally:
            connection.close()
        healed(rig, row, time.monotonic())


def lose_database(rig):
    """All three files are out of the way for a while. Commands are kept away from the moment of renaming only."""
    with rig.ledger.fault("database gone and back") as row:
        files = [rig.edge.database + ending for ending in ("", "-wal", "-shm")]
        moved = []
        with rig.churn.lock:
            for path in files:
                if os.path.exists(path):
                    os.rename(path, path + ".away")
                    moved.append(path)
        time.sleep(0.3 + rig.dice.random())
        if rig.dice.random() < 0.5:
            rig.edge.kill()  # and it comes back to no database
            rig.edge.start()
        with rig.churn.lock:
            for path in reversed(moved):
                os.rename(path + ".away", path)
        healed(rig, row, time.monotonic())


def fill_disk(rig):
    """Database and last good fence stand on a small disk of their own."""
    with rig.ledger.fault("disk full") as row:
        filler = os.path.join(rig.edge.directory, "filler")
        with open(filler, "wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 16)):
                    pass
            except OSError:
                pass
            time.sleep(0.5 + rig.dice.random())
        os.unlink(filler)
        healed(rig, row, time.monotonic())


def operate(rig):
    """An operator's own table comes and goes in the middle of passes."""
    with rig.ledger.fault("an operator's nft -f") as row:
        for _ in range(3 if rig.calm else 10):
            rig.network.router.nft("-f", "-", input=OPERATOR)
        healed(rig, row, time.monotonic())


def flush(rig):
    """A table that is the service's own is skipped; what becomes of another one is a hole."""
    with rig.churn.lock:
        if not rig.owned:
            rig.edge.settle()
            make_hole(rig)
            rig.churn.look_anew()
            return
        with rig.ledger.fault("nft flush ruleset") as row:
            started = time.monotonic()
            rig.network.router.nft("flush", "ruleset")
            healed(rig, row, started)


def make_hole(rig):
    """Nobody writes to the database meanwhile, so that it's the service itself that notices. Called with the lock."""
    with rig.ledger.fault("nft flush ruleset, table not owned", closed=False) as row:
        drift, started = rig.edge.drift(), time.monotonic()
        rig.network.router.nft("flush", "ruleset")
        rig.fenced_again(drift)
        row.heal.append((time.monotonic() - started) * 1000)


def flush_unowned(rig):
    """A table that somebody made beforehand can't be owned: what a kernel without owners shows."""
    with rig.churn.lock:
        for _ in range(3):
            rig.edge.stop()
            rig.without_fence("nft", "add", "table", "inet", "smtpfence")
            time.sleep(0.2)
            make_hole(rig)
        rig.edge.stop()
        rig.without_fence()
        rig.churn.look_anew()


def reboot(rig):
    """No table, no database: the last good fence is loaded before the first packet."""
    rig.edge.stop()
    rig.churn.lock.acquire()
    try:
        rig.flood.pause()
        rig.network.router.nft("delete", "table", "inet", "smtpfence")
        os.rename(rig.edge.database, rig.edge.database + ".away")
        started = time.monotonic()
        rig.edge.command("restore")
        took = (time.monotonic() - started) * 1000
        rig.flood.resume()
        with rig.ledger.fault("reboot: restore without a database") as row:
            time.sleep(0.3)
            row.heal.append(took)
            os.rename(rig.edge.database + ".away", rig.edge.database)
            rig.edge.start()
    finally:
        rig.churn.lock.release()
    rig.edge.settle()


def step_clock(rig):
    """Back or forward, by what is taken at once or by what is held for wrong at first; no right ends so soon."""
    with healing(rig, "clock set back or forward"):
        rig.edge.clock.ahead = int(rig.dice.uniform(-1, 1) * rig.dice.choice((250, 86400, 30 * 86400)))
        if rig.dice.random() < 0.3:
            rig.edge.kill()
            rig.edge.start()


def start_second(rig):
    """Refused with the first one's name, and in nobody's way."""
    with healing(rig, "a second service"):
        code = rig.edge.attempt("run")
        if code != CONFLICT:
            raise AssertionError(f"a second service: exit {code}")


RANDOM = (kill, kill, restart, upgrade, reload, apply, lock_database, lose_database, fill_disk, operate, flush,
          step_clock, start_second)


DISK_CALLS = ("pwrite64", "fdatasync,fsync", "pwrite64,write", "rename,pwrite64,write,fdatasync,fsync")


def refuse_disk(rig, calls):
    """What writes to a file says that the disk is full. The service says so, where it can still write its journal."""
    with rig.churn.lock, rig.ledger.fault(f"ENOSPC from {calls}") as row:
        rig.edge.settle()
        before = len(rig.edge.journal())
        with Tracer(rig.edge, f"{calls}:error=ENOSPC"):
            rig.edge.load(rig.edge.batch(rig.dice))
            time.sleep(0.5)
        said = rig.edge.journal()[before:]
        if "write" not in calls.split(",") and not ("No space left" in said or "disk is full" in said):
            raise AssertionError(f"the service said nothing of a full disk, but: {said}")
        healed(rig, row, time.monotonic())


def refuse_netlink(rig, error, number):
    """The kernel's answer number `number` is lost, or its receipt is interrupted."""
    with rig.ledger.fault(f"{error} from the netlink socket") as row:
        with Tracer(rig.edge, f"recvmsg,recvfrom,recvmmsg:error={error}:when={number}"):
            with rig.churn.lock:
                rig.edge.load(rig.edge.batch(rig.dice))
            started = time.monotonic()
            healed(rig, row, started)


def kill_in_pass(rig, call, number):
    """Kills the service at call `number` of a pass with changes. Returns whether it came so far."""
    with rig.churn.lock, rig.ledger.fault(f"kill -9 at {rig.which} {call} of a pass") as row:
        rig.edge.settle()
        with Tracer(rig.edge, f"{call}:signal=KILL:when={number}"):
            rig.edge.load(rig.edge.batch(rig.dice) + flips(rig))
            deadline = time.monotonic() + FAR_TOO_LONG
            while rig.edge.process.poll() is None and not rig.edge.caught_up() and time.monotonic() < deadline:
                time.sleep(0.01)
        died = rig.edge.process.poll() is not None
        started = time.monotonic()
        if died:
            rig.edge.stop()
            time.sleep(0.05)
            rig.edge.start()
            healed(rig, row, started)
        row.times -= not died
        return died


def flips(rig):
    """Records that change the pools' maps and widen none of them."""
    action = rig.dice.choice(("drop", "reject"))
    return [{"op": "pool", "prefix": prefix, "action": action} for prefix in ("100.64.2.0/24", "2001:db8:100:200::/56")]


def kill_in_upgrade(rig, call, number):
    """Kills the service at call `number` of its bring-up in another layout than the kernel holds, with changes that
    came meanwhile. Returns whether it came so far."""
    with rig.churn.lock, rig.ledger.fault(f"kill -9 at {rig.which} {call} of an upgrade") as row:
        rig.edge.stop()
        rig.edge.load(rig.edge.batch(rig.dice) + flips(rig))
        rig.switch_program()
        died = killed_at_start(rig, call, number)
        time.sleep(0.05)  # what the killed one left is all there is
        started = time.monotonic()
        rig.edge.start()
        healed(rig, row, started)
        rig.check_layout()
        row.times -= not died
        return died


def kill_in_first_start(rig, call, number):
    """The same where the kernel holds no table yet. Until the fence stands there is nothing to leak through, so the
    flood waits; but what is half there must stop nobody else. Returns whether it came so far."""
    with rig.churn.lock, rig.ledger.fault(f"kill -9 at {rig.which} {call} of a first start") as row:
        rig.edge.stop()
        rig.flood.pause()
        rig.edge.command("clear", "--yes")
        died = killed_at_start(rig, call, number)
        time.sleep(0.05)
        started = time.monotonic()
        rig.edge.start()
        rig.flood.resume()
        healed(rig, row, started)
        row.times -= not died
        return died


def killed_at_start(rig, call, number):
    """Starts the service, which dies at call `number`; one that gets ready first is killed then. Returns whether it
    died at that call."""
    rig.edge.launcher = ("strace", "-D", "-f", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={number}")
    try:
        rig.edge.start()
        died = False
    except AssertionError:
        died = rig.edge.process.poll() == -signal.SIGKILL
        if not died:
            raise
    finally:
        rig.edge.launcher = ()
    rig.edge.kill()
    return died
