"""The router under churn: the program under test with its facts, what is done to it all the time, and one row of the
final table for each kind of fault."""

import contextlib
import json
import os
import threading
import time

from clock import Clock
from flood import ALWAYS_EXEMPT, RELAY, TOGGLED
from service import Service

POOLS = ("100.64.0.0/16", "2001:db8:100::/40", "100.96.0.0/11")
BATCH_CUSTOMERS = 600
MANY = 100_000


class Edge(Service):
    """The service on the border router. `programs` are two builds with different rule layouts."""

    def __init__(self, flood, programs):
        super().__init__(flood.network, subscriber=("bng0",), poll="1s")
        self.flood, self.programs, self.program = flood, programs, programs[0]
        self.ticket, self.seen = 0, ""
        self.clock = Clock(self.directory)
        self.environment = self.clock.environment

    def populate(self, many):
        """`many`: with 100,000 exemptions that stay as they are."""
        self.command("init")
        lines = [{"op": "relay", "prefix": address} for address in RELAY.values()]
        lines += [{"op": "pool", "prefix": prefix, "action": "drop"} for prefix in POOLS]
        for number, prefix in enumerate(ALWAYS_EXEMPT.values()):
            lines += [{"op": "assign", "customer": f"always{number}", "prefix": prefix},
                      {"op": "exempt", "customer": f"always{number}", "reason": "runs a mail server"}]
        lines += [{"op": "assign", "customer": customer, "prefix": address}
                  for customer, addresses in TOGGLED.items() for address in addresses]
        lines += [{"op": "assign", "customer": f"batch{n}", "prefix": prefix} for n in range(BATCH_CUSTOMERS)
                  for prefix in (f"100.64.{32 + n // 200}.{n % 200}", f"2001:db8:100:{0x3000 + n:x}::/64")]
        if self.load(lines) != 0:
            raise RuntimeError("the facts can't be imported")
        if many:
            lines = [line for number in range(MANY) for line in
                     ({"op": "assign", "customer": f"many{number}",
                       "prefix": f"100.{112 + number // 62500}.{number // 250 % 250}.{number % 250}"},
                      {"op": "exempt", "customer": f"many{number}", "reason": "asked"})]
            for first in range(0, len(lines), MANY // 5):  # each in less time than a command may take
                if self.load(lines[first:first + MANY // 5]) != 0:
                    raise RuntimeError("100,000 exemptions can't be imported")
        return self

    def load(self, records):
        """Imports records; returns the exit code."""
        return self.attempt("import", "-", "--format", "jsonl", "--confirm",
                            input="".join(json.dumps(record) + "\n" for record in records))

    def run(self, *arguments, **options):
        return self.network.router.run(self.program, "--config", self.configuration, *arguments, check=False,
                                       env=os.environ | self.environment, **options)

    def attempt(self, *arguments, **options):
        """A command that may fail; returns the exit code."""
        return self.run(*arguments, **options).returncode

    def batch(self, dice, count=150):
        """Grants and revocations of so many customers, in one revision."""
        self.ticket += 1
        return [dice.choice(({"op": "exempt", "customer": f"batch{n}", "reason": "asked", "ticket": f"t{self.ticket}"},
                             {"op": "revoke", "customer": f"batch{n}", "reason": "asked"}))
                for n in dice.sample(range(BATCH_CUSTOMERS), count)]

    def drift(self):
        """Differences that the service found in the kernel and put right, as it reports."""
        return self.json("status")["items"][0]["drift_healed"]

    def caught_up(self):
        """Whether the service says that it enforces what the database says."""
        done = self.run("--output", "json", "status")
        self.seen = done.stdout or done.stderr
        if done.returncode != 0:
            return False
        router = json.loads(done.stdout)["items"][0]
        return router["live"] and not router["error"] and router["revision"] == router["desired_revision"]

    def settle(self):
        """Waits until the service enforces what the database says, without an error; returns how many ms it took."""
        started = time.monotonic()
        try:
            self.enforced(self.caught_up, "the database's revision, without an error")
        except AssertionError as error:
            raise AssertionError(f"{error}\nstatus: {self.seen}") from None
        return (time.monotonic() - started) * 1000


class Churn:
    """Changes the database without a pause in a thread of its own: batches, single grants and revocations, address
    moves, pools. What a command says is enforced is looked at: from then on no segment of that line may arrive."""

    def __init__(self, edge, flood, dice):
        self.edge, self.flood, self.dice, self.wait = edge, flood, dice, ("--wait", flood.pace.wait)
        self.lock = threading.Lock()  # held while a command runs: who takes it sees a database at rest
        self.counts = {"granted": 0, "revoked": 0, "failed": 0, "moved": 0, "pools": 0}
        self.checked, self.violations, self.failure = 0, [], None
        self.closed = {}  # churned source: segments that had arrived when it was reported closed
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def run(self):
        steps = (self.load_batch, self.load_batch, self.toggle, self.toggle, self.move, self.change_pools)
        try:
            while not self.ended.is_set():
                with self.lock:
                    self.dice.choice(steps)()
                time.sleep(self.flood.pace.commands)
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error

    def count(self, code, **what):
        for name, number in (what if code == 0 else {"failed": 1}).items():
            self.counts[name] += number

    def load_batch(self):
        records = self.edge.batch(self.dice)
        grants = sum(record["op"] == "exempt" for record in records)
        self.count(self.edge.load(records), granted=grants, revoked=len(records) - grants)

    def toggle(self):
        customer, addresses = self.dice.choice(sorted(TOGGLED.items()))
        if addresses[0] in self.closed:
            self.open(addresses)
            self.count(self.edge.attempt("exempt", "grant", customer, "--reason", "asked", *self.wait), granted=1)
        else:
            code = self.edge.attempt("exempt", "revoke", customer, "--reason", "asked", *self.wait)
            self.count(code, revoked=1)
            if code == 0:
                self.close(addresses)

    def move(self):
        """Another customer gets the address: the right must not come along; then it goes back."""
        customer, addresses = self.dice.choice(sorted(TOGGLED.items()))
        if addresses[0] in self.closed:
            return
        code = self.edge.attempt("assign", "newcomer", addresses[0], "--take", *self.wait)
        self.count(code, moved=1)
        if code == 0:
            self.close(addresses[:1])
            time.sleep(0.02)
        self.open(addresses)
        self.edge.attempt("assign", customer, addresses[0], "--take")

    def change_pools(self):
        nested, other = ("100.64.1.0/24", "2001:db8:100:200::/56"), ("100.90.0.0/23", "2001:db8:170::/52")
        words = self.dice.choice((
            ("pool", "add", *nested), ("pool", "remove", *nested), ("pool", "add", *other), ("pool", "remove", *other),
            ("pool", "set", "100.64.0.0/16", "2001:db8:100::/40", "--action", "reject"),
            ("pool", "set", "100.64.0.0/16", "2001:db8:100::/40", "--action", "drop")))
        # What is not there can't be removed: the one answer besides 0 that is right.
        code = self.edge.attempt(*words)
        self.count(0 if code == 3 else code, pools=1)

    def close(self, addresses):
        """Enforced by now: what is on its way may arrive, no more."""
        self.flood.drain()
        seen = self.flood.churned()
        self.closed.update({address: seen[address] for address in addresses})

    def open(self, addresses):
        """The end of a closed time: nothing may have arrived in it."""
        self.check(addresses)
        for address in addresses:
            self.closed.pop(address, None)

    def check(self, addresses):
        seen = self.flood.churned()
        for address in addresses:
            if address in self.closed:
                self.checked += 1
                if seen[address] != self.closed[address]:
                    self.violations.append(f"{seen[address] - self.closed[address]} segments of {address} passed after "
                                           "its revocation was reported as enforced")

    def look_anew(self):
        """After a hole that was expected, lines are closed from now on. Called with the lock."""
        self.close(list(self.closed))

    def end(self):
        self.ended.set()
        self.thread.join(60)
        self.check(list(self.closed))
        if self.failure:
            raise self.failure


class Row:
    """One kind of fault: how often, and what passed meanwhile."""

    def __init__(self, name, closed):
        self.name, self.closed = name, closed
        self.times, self.leaked, self.holes = 0, 0, []
        self.heal, self.spans = [], []  # milliseconds; sent() before and after

    def sent(self, name):
        return sum(after[name] - before[name] for before, after in self.spans)

    def within(self, name, numbers):
        return [number for number in numbers
                if any(before[name] <= number < after[name] for before, after in self.spans)]


class Ledger:
    """All rows. Between two faults time belongs to the row of the churn alone."""

    def __init__(self, flood):
        self.flood, self.rows = flood, {}
        self.mark = self.leaked = None

    def start(self):
        self.mark, self.leaked = self.flood.sent(), self.flood.leaked()

    def book(self, row, began=None):
        """All since the last booking goes to `row`; `began`: when the fault did, for the length of the hole."""
        if not row.closed:
            self.flood.drain()
        now, leaked = self.flood.sent(), self.flood.leaked()
        row.spans.append((self.mark, now))
        row.leaked += leaked - self.leaked
        if leaked > self.leaked and began:
            row.holes.append((began, time.time()))
        self.mark, self.leaked = now, leaked

    def row(self, name, closed=True):
        return self.rows.setdefault(name, Row(name, closed))

    @contextlib.contextmanager
    def fault(self, name, closed=True):
        """`closed`: nothing may leak; else the hole is measured. Legitimate traffic always passes."""
        self.book(self.row("churn alone"))
        row, began = self.row(name, closed), time.time()
        yield row
        row.times += 1
        self.book(row, began)


def remaining_processes():
    """Programs that this process started and that still run."""
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return file.read().split()
