"""The program as people and scripts meet it: a database in a directory of its own, arguments in, exit code and text
out. The executable is named by the environment: SMTPFENCE."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "packets"))
from children import die_with_parent  # noqa: E402

PROGRAM = os.environ.get("SMTPFENCE", "")
PATIENCE = 60.0

DONE, FAILED, USAGE, NOT_FOUND, CONFLICT, DENIED, NOT_ENFORCED, INVALID, CHANGES = 0, 1, 2, 3, 4, 5, 6, 7, 10


class Result:
    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def items(self):
        return self.json["items"]


class ProgramCase(unittest.TestCase):
    """A test with an initialised database. `self.database_url` may be changed, None stands for not naming one."""

    def setUp(self):
        if not PROGRAM:
            self.fail("set SMTPFENCE to the path of the executable")
        folder = tempfile.TemporaryDirectory(prefix="smtpfence-command-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.database = self.path("subscribers.db")
        self.database_url = f"sqlite:{self.database}"
        self.environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "LC_ALL": "C.UTF-8",
                            **{name: value for name, value in os.environ.items() if "SAN_OPTIONS" in name}}
        self.run_program("init")

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, content):
        with open(self.path(name), "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        return self.path(name)

    def call(self, *arguments, wrapper=(), program=PROGRAM, environment=None, **options):
        """Runs the program to its end, whatever its exit code."""
        own = dict(self.environment, **(environment or {}))
        if self.database_url and "SMTPFENCE_DATABASE" not in own:
            own["SMTPFENCE_DATABASE"] = self.database_url
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("encoding", "utf-8")
        return Result(subprocess.run([*wrapper, program, *arguments], env=own, timeout=PATIENCE, check=False, **options))

    def run_program(self, *arguments, code=DONE, **options):
        """Runs the program; another exit code fails the test. What is wrong is said in one line on standard error."""
        result = self.call(*arguments, **options)
        self.assertEqual(result.code, code, f"smtpfence {' '.join(arguments)}\n{result.out}\n{result.err}")
        return result

    def refused(self, code, *arguments, saying="", **options):
        """A refusal: nothing on standard output, one line on standard error that says why, the database as before."""
        before = self.revision()
        result = self.run_program(*arguments, code=code, **options)
        self.assertEqual(result.out, "")
        lines = result.err.strip("\n").split("\n")
        self.assertEqual(len(lines), 1, result.err)
        self.assertTrue(lines[0].startswith("smtpfence: "), result.err)
        self.assertIn(saying, result.err)
        self.assertEqual(self.revision(), before)
        return result

    def revision(self):
        """The database's revision; None when it can't be read."""
        result = self.call("check", "--output", "json", "--quiet")
        return result.json["revision"] if result.code == DONE else None

    def json(self, *arguments, code=DONE, **options):
        return self.run_program("--output", "json", *arguments, code=code, **options).json

    def listed(self, *arguments, **options):
        result = self.json(*arguments, **options)
        self.assertEqual(result["version"], 1)
        return result["items"]

    def populate(self):
        self.run_program("relay", "add", "203.0.113.10", "2001:db8:25::/64", "--note", "mx")
        self.run_program("pool", "add", "100.64.0.0/10", "2001:db8:1000::/36", "--name", "north")
        self.run_program("assign", "c1", "100.64.3.7", "2001:db8:1000:700::/56")


class ServiceCase(ProgramCase):
    """A test with a configuration and, when asked, the service. Its process has moved to a network namespace."""

    def setUp(self):
        super().setUp()
        self.configuration = self.write("config.toml", f'router = "edge1"\nstate_directory = "{self.path("state")}"\n')
        self.service = None
        self.addCleanup(self.stop)

    def call(self, *arguments, **options):
        known = ("--config", self.configuration) if hasattr(self, "configuration") else ()
        return super().call(*known, *arguments, **options)

    def beside(self, *arguments, command=(PROGRAM,), **options):
        """Starts the program, to run beside the test."""
        return subprocess.Popen([*command, "--config", self.configuration, *arguments], preexec_fn=die_with_parent,
                                env=dict(self.environment, SMTPFENCE_DATABASE=self.database_url), **options)

    def launch(self, command=(PROGRAM,)):
        with open(self.path("journal"), "w", encoding="utf-8") as journal:
            self.service = self.beside("run", command=command, stdout=journal, stderr=journal)

    def start(self, command=(PROGRAM,)):
        """Returns when it enforces."""
        self.launch(command)
        deadline = time.monotonic() + PATIENCE
        while not any(item["revision"] == item["desired_revision"] for item in self.listed("status")):
            self.assertIsNone(self.service.poll(), self.journal())
            self.assertLess(time.monotonic(), deadline, self.journal())
            time.sleep(0.02)

    def journal(self):
        with open(self.path("journal"), encoding="utf-8") as file:
            return file.read()

    def stop(self):
        if self.service and self.service.poll() is None:
            self.service.send_signal(signal.SIGTERM)
            self.assertEqual(self.service.wait(PATIENCE), 0, self.journal())
        self.service = None
