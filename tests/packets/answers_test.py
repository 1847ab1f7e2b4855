"""Errors where the kernel's answer should be: what was to change changes all the same, and nothing else does."""

import signal
import unittest

from network import FAMILIES
from packet_case import numbers, tcp
from service_test import ServiceCase
from tracer import Tracer

ERRORS = ("ENOBUFS", "EAGAIN", "EINTR", "ERESTART")
CALLS = ("sendto", "recvfrom", "recvmmsg")
FULL = 4096  # what a set for exemptions declares first
CUSTOMER, ADDRESS = "answered", "100.64.60.1"


class Answers(ServiceCase):
    def setUp(self):
        super().setUp()
        self.service.command("assign", CUSTOMER, ADDRESS)
        self.packet = tcp(FAMILIES[0], ADDRESS, FAMILIES[0].server)

    def status(self):
        return self.service.json("status")["items"][0]

    def recovered(self):
        """Nothing is left to say or to do."""
        def well():
            router = self.status()
            return not router["error"] and router["revision"] == router["desired_revision"]
        self.service.enforced(well, "a report without an error")
        self.service.command("plan")  # exit 0: the kernel holds what it should
        self.fence_holds()

    def toggled(self, verb):
        self.service.command("exempt", verb, CUSTOMER, "--reason", "a call", "--wait", "20s")
        (self.passes if verb == "grant" else self.dropped)(self.packet)

    def test_one_lost_or_interrupted_answer(self):
        self.service.start()
        for error in ERRORS:
            for call in CALLS:
                for number in (1, 2, 3):
                    with self.subTest(error=error, call=call, number=number):
                        for verb in ("grant", "revoke"):
                            with Tracer(self.service, f"{call}:error={error}:when={number}"):
                                self.toggled(verb)
                        self.assertIsNone(self.service.process.poll(), "the service lives")
                self.recovered()

    def test_a_kernel_that_answers_nothing_else_for_a_while(self):
        """What is in force stays, status says since when and why, and it is made up for without anybody's help."""
        self.service.start()
        self.toggled("grant")
        for error in ("ENOBUFS", "EAGAIN", "ERESTART", "ENFILE", "ENOMEM"):
            with self.subTest(error=error):
                with Tracer(self.service, f"sendto:error={error}"):
                    self.service.command("exempt", "revoke", CUSTOMER, "--reason", "a call", "--no-wait")
                    self.service.enforced(lambda: self.status()["error"], "the error in status")
                    router = self.status()
                    self.assertIn("kernel: ", router["error"])
                    self.assertTrue(router["error_since"])
                    self.assertLess(router["revision"], router["desired_revision"])
                    self.fence_holds()
                    self.passes(self.packet)
                self.service.enforced(lambda: not self.network.inject(self.packet, "home", "internet").arrived,
                                      "the revocation")
                self.recovered()
                self.toggled("grant")

    def test_a_kernel_that_goes_on_refusing_is_asked_less_and_less_often(self):
        """However many commits there are meanwhile, each of which would be a pass."""
        self.service.start()
        self.toggled("grant")
        commits, log = 100, f"{self.service.directory}/calls"
        with Tracer(self.service, "sendto:error=ENOMEM", log=log):
            for number in range(commits):
                self.service.command("exempt", "revoke" if number % 2 == 0 else "grant", CUSTOMER, "--reason", "a call",
                                     "--no-wait")
            self.service.enforced(lambda: self.status()["error"], "the error in status")
        with open(log, encoding="utf-8") as calls:
            refused = sum("(INJECTED)" in line for line in calls)
        self.assertGreater(refused, 1)
        self.assertLess(refused, commits / 2)
        self.recovered()
        self.toggled("revoke")


class FullSets(ServiceCase):
    """The set that holds both experts' addresses is filled to the size that it declares, by somebody else's hand: the
    service itself never lets one get so full."""

    STRANGERS = [f"10.{number // 250}.{number % 250}.1" for number in range(FULL)]

    def setUp(self):
        super().setUp()
        self.network.router.nft("add", "table", "inet", "smtpfence")  # can't gain an owner from then on
        self.service.command("assign", CUSTOMER, ADDRESS)
        self.packet = tcp(FAMILIES[0], ADDRESS, FAMILIES[0].server)
        self.expert = tcp(FAMILIES[0], FAMILIES[0].expert, FAMILIES[0].server)

    def fill(self):
        """Until the kernel says that it is full; what is there already doesn't count twice."""
        room = FULL - 2
        add = "add element inet smtpfence exempt4_32 {{ {} }}\n".format
        self.network.router.nft("-f", "-", input=add(", ".join(self.STRANGERS[:room])))
        done = self.network.router.run("nft", "-f", "-", input=add("10.99.0.1"), check=False)
        self.assertIn("Too many open files in system", done.stderr)

    def swap(self):
        """A revocation and a grant, in one revision."""
        records = ('{"op":"revoke","customer":"expert","reason":"abuse"}\n'
                   f'{{"op":"exempt","customer":"{CUSTOMER}","reason":"mail server","ticket":"{next(numbers)}"}}\n')
        self.network.router.run(self.service.program, "--config", self.service.configuration, "import", "-", "--format",
                                "jsonl", input=records)

    def swapped(self):
        for packet, passes in ((self.expert, False), (self.packet, True)):
            self.service.enforced(lambda packet=packet, passes=passes:
                                  self.network.inject(packet, "home", "internet").arrived == passes, packet.summary())
        self.service.enforced(lambda: " 10." not in self.service.table(), "the strangers' removal")
        self.service.command("plan")

    def test_filled_while_the_service_is_dead(self):
        self.service.start()
        self.service.kill()
        self.fill()
        self.swap()
        self.service.start()
        self.swapped()

    def test_filled_while_it_runs_again_and_again(self):
        self.service.start()
        for _ in range(3):
            self.service.process.send_signal(signal.SIGSTOP)
            self.fill()
            self.swap()
            self.service.process.send_signal(signal.SIGCONT)
            self.swapped()
            self.service.command("exempt", "revoke", CUSTOMER, "--reason", "over", "--wait", "20s")
            self.service.command("exempt", "grant", "expert", "--reason", "mail server", "--wait", "20s")


if __name__ == "__main__":
    unittest.main()
