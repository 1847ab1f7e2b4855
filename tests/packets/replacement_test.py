"""Most of a large exemption set goes at once, under packets: those who stay stay open, and whoever ends is closed before
anybody new is opened, for good."""

import os
import re
import threading
import unittest

from network import FAMILIES, Namespace
from packet_case import tcp
from service_test import ServiceCase

MANY = 101_000  # more than 100,000 of which go, so that the set is made anew
# What is new is written in order: the newcomer comes behind all the others, so that a round falls between.
LEAVER, NEWCOMER = "100.64.60.1", "100.127.0.1"


class Turnover:
    """SYNs of one who stays, one who never was exempt, one who is new and one who leaves, in this order and without a
    pause; what came out of each round."""

    def __init__(self, case):
        self.network, a = case.network, FAMILIES[0]
        self.packets = [bytes(tcp(a, source, a.server)) for source in (a.expert, a.drop, NEWCOMER, LEAVER)]
        self.rounds, self.failure = [], None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.send, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def send(self):
        try:
            while not self.ended.is_set():
                self.rounds.append(tuple(self.network.inject(self.packets, "home", "internet").each))
        except (OSError, AssertionError) as error:
            self.failure = repr(error)

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


class Replacement(ServiceCase):
    def set_name(self, namespace):
        name, = re.findall(r"set (exempt4_32\S*) ", namespace.nft("-t", "list", "table", "inet", "smtpfence"))
        return name

    def exempt(self, namespace, address):
        """Whether the kernel holds it, by its key: a dump of so many takes long."""
        element = f"{{ {address} }}"
        return namespace.run("nft", "get", "element", "inet", "smtpfence", self.set_name(namespace), element,
                             check=False).returncode == 0

    def test_nobody_is_opened_or_closed_by_accident(self):
        self.service.import_bulk(range(MANY), [("leaver", LEAVER)], ("--source", "crm"))
        self.service.start()
        router, before = self.network.router, self.set_name(self.network.router)
        # In the way of the file as a whole: only the records of the transactions are written.
        os.makedirs(os.path.join(self.service.directory, "state", "fence.new", "in the way"))
        expected = [(True, False, False, True), (True, False, False, False), (True, False, True, False)]
        with Turnover(self) as turnover:
            self.service.enforced(lambda: turnover.rounds, "packets")
            self.service.import_bulk(range(MANY, 2 * MANY), [("newcomer", NEWCOMER)],
                                     ("--source", "crm", "--mode", "replace"))
            self.service.enforced(lambda: turnover.rounds[-1] == expected[-1], "the newcomer")
            self.service.kill()
        self.assertIsNone(turnover.failure)
        self.assertEqual(list(dict.fromkeys(turnover.rounds)), expected)
        self.assertEqual(turnover.rounds, sorted(turnover.rounds, key=expected.index))
        self.assertNotEqual(self.set_name(router), before)

        elsewhere = Namespace()
        self.addCleanup(elsewhere.close)
        elsewhere.run(self.service.program, "--config", self.service.configuration, "restore")
        self.assertTrue(self.exempt(elsewhere, FAMILIES[0].expert))
        self.assertFalse(self.exempt(elsewhere, LEAVER))

        self.service.start()
        self.service.command("plan")
        self.assertTrue(self.exempt(router, NEWCOMER))
        self.assertFalse(self.exempt(router, LEAVER))
        self.fence_holds()


if __name__ == "__main__":
    unittest.main()
