"""Two writers of one kernel's table: the second is refused, with the first one's name. Many writers of one database:
nothing is lost."""

import itertools
import multiprocessing
import signal
import subprocess
import time
import unittest

from network import Network
from service import PROGRAM, Service
from service_test import ServiceCase

CONFLICT = 4
WRITERS, SECONDS = 8, 3


class TwoServices(ServiceCase):
    def second(self, network=None, state=None):
        """Another service's directory and database; with `state`, that service's state directory."""
        other = Service(network or self.network)
        self.addCleanup(other.close)
        other.populate()
        if state:
            with open(other.configuration, encoding="ascii") as file:
                text = file.read().replace(f"{other.directory}/state", f"{state.directory}/state")
            with open(other.configuration, "w", encoding="ascii") as file:
                file.write(text)
        return other

    def refused(self, other, *command):
        done = other.network.router.run(PROGRAM, "--config", other.configuration, *command, check=False)
        self.assertEqual(done.returncode, CONFLICT, done.stderr)
        self.assertIn(f"is written by process {self.service.process.pid} (smtpfence)", done.stderr)

    def test_the_second_one_is_refused_whatever_its_state_directory(self):
        self.service.start()
        before = self.service.table()
        for other in (self.second(), self.second(state=self.service)):
            for _ in range(20):  # more than would ever be queued
                self.refused(other, "run")
            self.refused(other, "clear", "--yes")
        self.assertEqual(self.service.table(), before)
        self.fence_holds()

    def test_restore_is_refused_beside_a_service_of_another_state_directory(self):
        other = self.second()
        other.start()
        other.stop()
        self.service.start()
        self.refused(other, "restore")

    def test_the_right_ends_with_its_process(self):
        other = self.second()
        self.service.start()
        self.service.kill()
        other.start()
        self.assertIsNone(other.process.poll())

    def test_in_two_network_namespaces_both_run(self):
        network = Network()
        self.addCleanup(network.close)
        other = self.second(network)
        self.service.start()
        other.start()
        self.assertIsNone(self.service.process.poll())
        self.assertIsNone(other.process.poll())

    def test_a_user_without_the_right_to_write_the_table_holds_up_nobody(self):
        for listening in ("", "; s.listen()"):
            squatter = self.network.router.start(
                "setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c",
                "import socket; s = socket.socket(socket.AF_UNIX); s.bind('\\0smtpfence/table')" + listening +
                "; print('there', flush=True); import time; time.sleep(600)", stdout=subprocess.PIPE)
            self.addCleanup(squatter.stdout.close)
            self.addCleanup(squatter.wait)
            self.addCleanup(squatter.kill)
            self.assertEqual(squatter.stdout.readline(), "there\n")
            self.service.start()
            self.service.stop(signal.SIGTERM)
            squatter.kill()
            squatter.wait()


def write(program, configuration, number, until, results):
    """One desk: assigns, grants, revokes and releases, and notes each revision that was acknowledged."""
    done = []
    for turn in itertools.count():
        if time.monotonic() > until:
            break
        customer, address = f"desk{number}", f"100.64.{40 + number}.{1 + turn % 250}"
        for words in (("assign", customer, address), ("exempt", "grant", customer, "--reason", f"call {turn}", "--no-wait"),
                      ("exempt", "revoke", customer, "--reason", f"call {turn}", "--no-wait"), ("release", address)):
            while True:
                answer = subprocess.run([program, "--config", configuration, *words], text=True, capture_output=True,
                                        check=False)
                # On a slow machine the others may hold the lock for longer than a command waits: it wrote nothing.
                if answer.returncode != 1 or "try again when that has ended" not in answer.stderr:
                    break
            done.append((words, answer.returncode, answer.stderr))
    results.put((number, done))


class ManyWriters(ServiceCase):
    def test_nothing_that_was_acknowledged_is_lost(self):
        self.service.start()
        results = multiprocessing.Queue()
        until = time.monotonic() + SECONDS
        first = self.service.json("check")["revision"]
        desks = [multiprocessing.Process(target=write, args=(PROGRAM, self.service.configuration, number, until, results))
                 for number in range(WRITERS)]
        for desk in desks:
            desk.start()
        done = dict(results.get(timeout=120) for _ in desks)
        for desk in desks:
            desk.join()
        entries = [entry for entry in self.service.json("audit")["items"] if entry["revision"] > first]
        # One command is one revision; every number is there, and no other.
        revisions = sorted({entry["revision"] for entry in entries})
        count = sum(len(commands) for commands in done.values())
        self.assertEqual(revisions, list(range(first + 1, first + 1 + count)))
        for number, commands in done.items():
            self.assertGreater(len(commands), 0)
            self.assertEqual([(words, error) for words, code, error in commands if code not in (0, 6)], [])
            own = sorted((entry["revision"], entry["command"]) for entry in entries
                         if f"desk{number}" in str(entry) or f"100.64.{40 + number}." in str(entry))
            said = [" ".join(itertools.takewhile(str.isalpha, words)) for words, _, _ in commands]
            kept = [command for _, command in dict(own).items()]
            self.assertEqual(len(kept), len(said), f"desk {number}")
            for command, words in zip(kept, said):
                self.assertIn(words.split()[0], command)
        print(f"{count} writes by {WRITERS} processes in {SECONDS} s")
        self.service.command("apply")
        self.service.command("plan")  # exit 0: nothing differs


if __name__ == "__main__":
    unittest.main()
