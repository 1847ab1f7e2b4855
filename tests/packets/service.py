"""The program under test on the border router: a SQLite database and a configuration in a directory of its own, its
commands, and its service with systemd's readiness protocol. The executable is named by the environment: SMTPFENCE."""

import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from network import FAMILIES, PATIENCE

PROGRAM = os.environ.get("SMTPFENCE", "")
DIRECTORY = "smtpfence-packets-"
CONFLICT = 4

RELAYS = [address for family in FAMILIES for address in (family.relay, family.near_relay)]
POOLS = {
    "drop": ("100.64.0.0/16", "2001:db8:100::/40", "100.70.0.0/16", "100.71.0.0/16", "100.69.0.0/16",
             "100.67.5.0/24",
             "100.64.9.9", "2001:db8:160:5::/64", "2001:db8:100:900::99"),
    "reject": ("100.65.0.0/16", "2001:db8:140::/44", "100.64.8.0/24", "2001:db8:100:800::/56"),
    "observe": ("100.66.0.0/16", "2001:db8:150::/44"),
    "pass": ("100.67.0.0/16", "2001:db8:160::/44", "100.64.9.0/24", "2001:db8:100:900::/56"),
}


def sweep():
    """Removes directories of tests that were killed."""
    for path in glob.glob(os.path.join(tempfile.gettempdir(), DIRECTORY + "*")):
        owner = path.rpartition(DIRECTORY)[2].partition("-")[0]
        if not os.path.exists(f"/proc/{owner}"):
            shutil.rmtree(path, ignore_errors=True)


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        return str(error)


class Service:
    """`smtpfence run` and its commands, in the router's namespace."""

    def __init__(self, network, subscriber=("bng0", "vlan*"), poll="60s", action="drop"):
        if not PROGRAM:
            raise RuntimeError("set SMTPFENCE to the path of the executable")
        sweep()
        self.network = network
        self.program, self.launcher = PROGRAM, ()  # what starts the service's program, when something does
        self.environment = {}  # of the service and the commands, besides this process's
        self.directory = tempfile.mkdtemp(prefix=f"{DIRECTORY}{os.getpid()}-")
        self.configuration = os.path.join(self.directory, "config.toml")
        self.database = os.path.join(self.directory, "subscribers.db")
        self.configure(subscriber, poll, action)
        self.process = self.log = self.notifications = self.listener = None
        self.said = []

    def configure(self, subscriber=("bng0", "vlan*"), poll="60s", action="drop"):
        with open(self.configuration, "w", encoding="ascii") as file:
            file.write(f'database = "sqlite:{self.database}"\nrouter = "edge1"\n'
                       f'state_directory = "{self.directory}/state"\n'
                       f'[interfaces]\nsubscriber = {json.dumps(list(subscriber))}\naction = "{action}"\n'
                       f'[follow]\npoll = "{poll}"\n')

    def command(self, *arguments, code=0):
        """Runs `smtpfence ARGUMENTS`; any exit code but `code` fails the test. Returns standard output."""
        done = self.network.router.run(self.program, "--config", self.configuration, *arguments, check=False,
                                       env=os.environ | self.environment)
        if done.returncode != code:
            raise AssertionError(f"smtpfence {' '.join(arguments)}: exit {done.returncode}, not {code}\n{done.stdout}"
                                 f"{done.stderr}")
        return done.stdout

    def json(self, *arguments):
        return json.loads(self.command("--output", "json", *arguments))

    def populate(self):
        """The relays, pools and experts that the tests know."""
        self.command("init")
        self.command("relay", "add", *RELAYS)
        for action, prefixes in POOLS.items():
            self.command("pool", "add", *prefixes, "--action", action)
        self.command("assign", "expert", "100.64.7.7", "2001:db8:100:700::/56")
        self.command("assign", "neighbour-expert", "100.70.7.7", "2001:db8:170:700::/56")
        for customer in ("expert", "neighbour-expert"):
            self.command("exempt", "grant", customer, "--reason", "runs a mail server", "--no-wait")
        return self

    def import_bulk(self, numbers, others=(), options=()):
        """Imports exempt customers by their numbers, each with an IPv4 address outside every pool, and `others`: name and
        address."""
        lines = [(f"bulk{number}", f"100.{80 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}")
                 for number in numbers]
        records = os.path.join(self.directory, "records.jsonl")
        with open(records, "w", encoding="ascii") as file:
            for customer, address in (*lines, *others):
                file.write(f'{{"op":"assign","customer":"{customer}","prefix":"{address}"}}\n'
                           f'{{"op":"exempt","customer":"{customer}","reason":"mail server"}}\n')
        self.command("import", records, "--format", "jsonl", "--confirm", *options)

    def start(self, **environment):
        """Starts the service and waits until it says that it enforces."""
        path = os.path.join(self.directory, "notify")
        if os.path.exists(path):
            os.unlink(path)
        self.notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notifications.bind(path)
        self.said = []
        self.log = open(os.path.join(self.directory, "log"), "a", encoding="utf-8")
        self.process = self.network.router.start(
            *self.launcher, self.program, "--config", self.configuration, "run", stdout=self.log, stderr=self.log,
            env=os.environ | self.environment | {"NOTIFY_SOCKET": path} | environment)
        self.listener = threading.Thread(target=self.listen, args=(self.notifications,), daemon=True)
        self.listener.start()
        self.wait_until_said("READY=1")
        return self

    def listen(self, notifications):
        """Reads on like systemd, until stop(): a full queue would hold the service up."""
        while message := notifications.recv(65536):
            self.said.extend(message.decode().split("\n"))

    def wait_until_said(self, words):
        """Waits for a notification with this line; earlier ones count too."""
        deadline = time.monotonic() + PATIENCE
        while words not in self.said:
            if self.process.poll() is not None:
                raise AssertionError(f"the service ended with {self.process.returncode}\n{self.journal()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"the service did not say {words}: {self.said}\n{self.journal()}")
            time.sleep(0.001)

    def wait_until(self, condition, what):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"the service did not say {what}: {self.said}\n{self.journal()}")
            time.sleep(0.01)

    def journal(self):
        with open(os.path.join(self.directory, "log"), encoding="utf-8") as file:
            return file.read()

    def whereabouts(self):
        """Of the service's process and of who traces it, for a failure: state, system call, where in the kernel."""
        if not self.process:
            return "no service runs"
        own = f"/proc/{self.process.pid}/status"
        tracers = [pid for pid in os.listdir("/proc") if pid.isdigit() and f"TracerPid:\t{pid}\n" in read(own)]
        return "\n".join(f"process {pid} {name}: {read(f'/proc/{pid}/{name}').strip()}"
                         for pid in [str(self.process.pid)] + tracers for name in ("stat", "syscall", "wchan", "stack"))

    def stop(self, number=signal.SIGTERM):
        """Returns the exit code; negative for a signal."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self.notifications.shutdown(socket.SHUT_RD)
        self.listener.join()
        self.notifications.close()
        self.log.close()
        self.process = None
        return code

    def kill(self):
        return self.stop(signal.SIGKILL)

    def table(self):
        """The kernel's table as nft lists it, without what moves by itself and without when rights end."""
        return re.sub(r"(?<!\t)timeout [0-9a-z]+", "timeout T",
                      still(self.network.router.nft("list", "table", "inet", "smtpfence")))

    def enforced(self, condition, what):
        """Waits until `condition()` holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not enforced: {what}\n{self.journal()}")
            time.sleep(0.01)

    def close(self):
        if self.process:
            try:
                self.stop()
            except subprocess.TimeoutExpired:  # busy: its test has already judged
                self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def still(listing):
    """A listing without what moves by itself: counters, remaining times, sources that attempted, the owner."""
    for pattern, replacement in ((r"\n\t\telements = \{[^}]* counter packets [^}]*\}", ""),
                                 (r"packets \d+ bytes \d+", "packets N bytes N"),
                                 (r" expires [0-9a-z]+", ""),
                                 (r"\n\tflags [a-z,]*\n", "\n"),
                                 (r"( #)? progname \S+", ""),
                                 (r"\n+", "\n")):
        listing = re.sub(pattern, replacement, listing)
    return listing
