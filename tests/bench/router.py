"""A database with pools and exempt customers, a namespace to enforce it in, and the service."""

import contextlib
import json
import os
import re
import socket
import sqlite3
import time

from namespaces import Measured, Namespace

HERE = os.path.dirname(os.path.realpath(__file__))
PROGRAM = os.path.realpath(os.environ.get("SMTPFENCE", f"{HERE}/../../build/release/smtpfence"))
TOGGLES, GETS = (os.path.join(os.path.dirname(PROGRAM), f"tests/bench/bench_{name}") for name in ("toggles", "gets"))
SPARE = 5000  # customers with an address and without exemption, to be toggled
PATIENCE = 600


def exempt_address(number):
    """Customer number N's address: 100.64.0.0/10, as an ISP's access network."""
    return f"100.{64 + number // 65536}.{number // 256 % 256}.{number % 256}"


def pool_prefix(number):
    return "100.64.0.0/10" if number == 0 else f"{10 + number // 65536}.{number // 256 % 256}.{number % 256}.0/24"


def revisions(database):
    """The last one that is written, and the last one that the router reports as enforced; 0: none yet."""
    query = "SELECT state.revision, coalesce(router.revision, 0) FROM state LEFT JOIN router"
    return database.execute(query).fetchone()


class Router:
    def __init__(self, folder, exemptions, pools):
        self.folder = folder
        os.makedirs(folder)
        self.exemptions, self.pools = exemptions, pools
        self.file = f"{folder}/subscribers.db"
        self.namespace = Namespace()
        self.service = self.log = None
        self.config = f"{folder}/config.toml"
        with open(self.config, "w", encoding="utf-8") as out:
            # The guard would hold back what this benchmark does all the time: to exempt everybody within an hour.
            out.write(f'database = "sqlite:{self.file}"\nrouter = "bench"\nstate_directory = "{folder}/state"\n'
                      "[guard]\nmax_exempt_percent = 100\nmax_release_percent = 100\n")
        self.run("init")
        self.run("relay", "add", "203.0.113.10")
        if exemptions or pools:
            self.imported(self.records(exemptions))

    def records(self, exemptions, shift=0):
        """Pools, and customers of whom the first `exemptions` are exempt; `shift` moves everybody's address."""
        path = f"{self.folder}/records.jsonl"
        with open(path, "w", encoding="utf-8") as out:
            for number in range(self.pools):
                out.write(f'{{"op":"pool","prefix":"{pool_prefix(number)}","action":"drop"}}\n')
            for number in range(exemptions + SPARE):
                out.write(f'{{"op":"assign","customer":"customer{number}","prefix":"{exempt_address(number + shift)}"}}\n')
                if number < exemptions:
                    out.write(f'{{"op":"exempt","customer":"customer{number}","reason":"own mail server"}}\n')
        return path

    def imported(self, path, *options):
        return self.run("import", path, "--format", "jsonl", *options)

    def spare(self, number):
        """A customer to toggle, and his address."""
        return f"customer{self.exemptions + number}", exempt_address(self.exemptions + number)

    def run(self, *command, good=(0,)):
        return Measured(self.namespace, PROGRAM, "--config", self.config, *command, good=good)

    def seconds(self, *command):
        return self.namespace.seconds(PROGRAM, "--config", self.config, *command)

    def serve(self):
        """Starts the service; seconds until it says READY."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            path = f"{self.folder}/notify"
            if os.path.exists(path):
                os.unlink(path)
            ready.bind(path)
            ready.settimeout(PATIENCE)
            self.log = open(f"{self.folder}/service.log", "ab")
            started = time.perf_counter()
            self.service = self.namespace.start(PROGRAM, "--config", self.config, "run", stderr=self.log,
                                                env={**os.environ, "NOTIFY_SOCKET": path})
            while b"READY=1" not in ready.recv(4096):
                pass
            return time.perf_counter() - started

    def stop(self):
        if self.service:
            self.service.terminate()
            self.service.wait()
            self.log.close()
            self.service = None

    def memory(self):
        """Resident megabytes of the service: now, at its peak."""
        with open(f"/proc/{self.service.pid}/status", encoding="utf-8") as file:
            fields = dict(line.split(":", 1) for line in file)
        return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))

    def cpu(self):
        """CPU seconds that the service has used."""
        with open(f"/proc/{self.service.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def reader(self):
        """A connection that only reads, to be closed."""
        return contextlib.closing(sqlite3.connect(f"file:{self.file}?mode=ro", uri=True, timeout=PATIENCE))

    def behind(self):
        """How many revisions the router's report is behind the database."""
        with self.reader() as database:
            written, enforced = revisions(database)
            return written - enforced

    def follows(self, before):
        """Waits for the revision behind `before`: seconds from when it is first seen in the database to when the
        service's report of it is, both by one connection that asks every ms."""
        committed, deadline = None, time.perf_counter() + PATIENCE
        with self.reader() as database:
            while time.perf_counter() < deadline:
                written, enforced = revisions(database)
                seen = time.perf_counter()
                if written > before:
                    committed = committed or seen
                    if enforced >= written:
                        return seen - committed
                time.sleep(0.001)
        raise RuntimeError(f"no report of a revision behind {before}: see {self.folder}/service.log")

    def converge(self):
        """Seconds until the service reports that it enforces the database's revision."""
        started = time.perf_counter()
        while self.behind() > 0:
            if time.perf_counter() - started > PATIENCE or self.service.poll() is not None:
                raise RuntimeError(f"the service does not converge: see {self.folder}/service.log")
            time.sleep(0.002)
        return time.perf_counter() - started

    def rest(self, before):
        """Waits until the service, which had used `before` CPU seconds, has been idle for a second; returns what it used."""
        deadline = time.perf_counter() + min(PATIENCE, 20 + self.exemptions / 10_000)
        while self.cpu() == before and time.perf_counter() < deadline:
            time.sleep(0.1)
        self.still(deadline)
        return self.cpu() - before

    def still(self, deadline):
        """Waits until the service has used nothing for a second, but not behind `deadline`."""
        last, since = self.cpu(), time.perf_counter()
        while time.perf_counter() < min(since + 1, deadline):
            time.sleep(0.1)
            if self.cpu() != last:
                last, since = self.cpu(), time.perf_counter()

    def toggled(self, customers, count, pause):
        """Milliseconds from each commit to the kernel, by "grant" and "revoke", and how long all took in seconds."""
        lines = "\n".join(" ".join(self.spare(number)) for number in range(customers)) + "\n"
        output = self.namespace.run(TOGGLES, f"sqlite:{self.file}", str(count), str(int(pause * 1e6)), text=lines)
        samples = {"grant": [], "revoke": []}
        for line in output.splitlines():
            word, number = line.split()
            if word == "seconds":
                return samples, float(number)
            samples[word].append(float(number) / 1000)
        raise RuntimeError("bench_toggles ended early")

    def exempt_set(self):
        """The newest set of exempt addresses; its name has its capacity once it grew."""
        listing = self.namespace.run("nft", "-t", "list", "table", "inet", "smtpfence")
        names = re.findall(r"set (exempt4_32\w*)", listing)
        return max(names, key=lambda name: int(name.partition("_32_")[2] or 0))

    def asked(self, shift=0):
        """CPU seconds that asking the kernel for each exemption takes, and nothing else. All must be there."""
        held, seconds = self.namespace.run(GETS, self.exempt_set(), str(shift), str(self.exemptions)).split()
        if int(held) != self.exemptions:
            raise RuntimeError(f"the kernel holds {held} exemptions of {self.exemptions}")
        return float(seconds)

    def use(self, path):
        """Another database instead, which is written to; nobody has either open."""
        os.unlink(self.file)
        os.link(path, self.file)

    def forget_state(self):
        """A first fence is measured against no last good one."""
        for name in ("fence", "fence.previous"):
            path = f"{self.folder}/state/{name}"
            if os.path.exists(path):
                os.unlink(path)


def set_sizes(namespace):
    """How many elements the kernel lists in each set, counted by nft."""
    listing = json.loads(Measured(namespace, "nft", "-j", "list", "table", "inet", "smtpfence").output)
    things = [item.get("set") or item.get("map") for item in listing["nftables"]]
    return {thing["name"]: len(thing.get("elem", [])) for thing in things if thing}
