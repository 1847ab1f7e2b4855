"""The router that the random walk leads through commands and faults, with both oracles: who may pass as Facts say, and
as real packets find."""

import ipaddress
import json
import os
import sqlite3
import subprocess
import time

from clock import Clock
from facts import BLUR, CUSTOMERS, DONE, Desk, FIRST_RELAYS, Facts
from network import FAMILIES, PATIENCE
from packet_case import segment
from reading import Reading
from service import Service

NOT_ENFORCED = 6
DISK = "8m"
SOURCES = {4: ("100.64.20.1", "100.64.20.2", "100.64.20.8", "100.64.20.9", "100.64.20.12", "100.64.21.5", "100.64.21.6",
               "100.64.30.1", "198.18.1.9"),
           6: ("2001:db8:100:2000::1", "2001:db8:100:2100::7", "2001:db8:100:21ff::1", "2001:db8:100:3000::1",
               "2001:db8:300::9", "2001:db8:300:100::9")}


class Flow:
    """One segment that is sent again and again."""

    def __init__(self, family, line, source, destination, ports):
        self.line, self.far = line, "internet" if line == "home" else "home"
        self.source, self.destination = ipaddress.ip_address(source), ipaddress.ip_address(destination)
        self.to_25, self.from_25 = ports[1] == 25, ports[0] == 25
        self.packet = bytes(family.packet(source, destination) / segment(*ports))
        self.name = f"{source} {ports[0]} > {destination} {ports[1]}"


def all_flows():
    flows = []
    for family in FAMILIES:
        for address in SOURCES[family.family]:
            flows += [Flow(family, "home", address, family.server, (40000, 25)),
                      Flow(family, "home", address, family.alien, (40000, 25)),
                      Flow(family, "home", address, family.relay, (40000, 25)),
                      Flow(family, "home", address, family.server, (40000, 587)),
                      Flow(family, "internet", family.server, address, (25, 40000)),
                      Flow(family, "internet", family.alien, address, (25, 40000))]
    return flows


class Seen:
    """What the kernel may hold: facts, the interfaces, and the clock by which their ends were last set."""

    def __init__(self, facts, subscriber, ahead):
        self.facts, self.subscriber, self.ahead = facts, subscriber, ahead

    def reading(self, lines, moment):
        facts = self.facts
        return Reading(lines, self.subscriber, facts.relays, facts.experts(moment + self.ahead),
                       sorted(facts.pools.items()))


class Walker(Service):
    """`facts` are the database's; `possible` is what the kernel may hold, the last of them when all went well."""

    def __init__(self, network):
        super().__init__(network, poll="1s")
        self.clock = Clock(self.directory)
        self.environment = self.clock.environment
        self.state, data = os.path.join(self.directory, "state"), os.path.join(self.directory, "data")
        for folder in (self.state, data):
            os.mkdir(folder)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "smtpfence-walk", folder], check=True)
        self.database = os.path.join(data, "subscribers.db")
        self.facts, self.desk, self.flows = Facts(), Desk(), all_flows()
        self.subscriber, self.possible = (), []
        self.steps, self.passed, self.stopped, self.checks = [], 0, 0, 0
        self.write_configuration(("bng0", "vlan*"))

    def write_configuration(self, interfaces):
        self.configure(interfaces, poll="1s")
        with open(self.configuration, "a", encoding="ascii") as file:
            file.write("[guard]\nmax_release_percent = 100\nmax_exempt_percent = 100\n")
        self.subscriber = ("home", "street") if "bng0" in interfaces else ("street",)

    # What is done, and remembered for a failure's sake.

    def note(self, step):
        self.steps.append(f"{len(self.steps)} {time.strftime('%T')} {step}")

    def attempt(self, words, text=None):
        """Exit code and everything said."""
        options = {"input": text} if text is not None else {}
        done = self.network.router.run(self.program, "--config", self.configuration, *words, check=False,
                                       env=os.environ | self.environment, **options)
        return done.returncode, done.stdout + done.stderr

    def populate(self):
        self.command("init")
        self.command("relay", "add", *FIRST_RELAYS)
        for number, customer in enumerate(CUSTOMERS):  # so that all are known
            self.command("assign", customer, f"192.168.7.{number}")
        for prefix in ("100.64.0.0/16", "2001:db8:100::/40"):
            self.command("pool", "add", prefix)
            self.facts.pools[prefix] = "drop"
        self.settled()
        return self

    def give(self, command, accepted=()):
        """Gives a command. `accepted`: exit codes besides the right one with which it must have changed nothing."""
        code, said = self.attempt(command.words, command.text)
        self.note(f"smtpfence {command}: exit {code}")
        if code in (command.code, NOT_ENFORCED if command.code == DONE else None):
            if code == DONE or code == NOT_ENFORCED:
                self.told(command.facts)
            return code
        if code not in (*accepted, command.refusal):
            raise AssertionError(f"smtpfence {command}: exit {code}, not {command.code}\n{said}")
        return code

    def told(self, facts):
        if facts.as_dictionary() == self.facts.as_dictionary():
            return
        before, self.facts = self.facts, facts
        self.possible.append(self.wanted())
        self.desk.note(self.revision(), before, facts)

    def revision(self):
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=PATIENCE)
        try:
            return connection.execute("SELECT max(number) FROM revision").fetchone()[0]
        finally:
            connection.close()

    # What must hold.

    def wanted(self):
        return Seen(self.facts, self.subscriber, self.clock.ahead)

    def settled(self):
        """From now on the kernel holds what the database says."""
        self.possible = [self.wanted()]

    def differences(self):
        """Sends every flow; those that did not fare as anything that the kernel may hold says."""
        began, fared = time.time(), {}
        for line in ("home", "internet"):
            flows = [flow for flow in self.flows if flow.line == line]
            outcome = self.network.inject([flow.packet for flow in flows], line, flows[0].far)
            fared.update(zip(flows, outcome.each))
        ended = time.time()
        readings = [seen.reading(self.network.lines, moment) for seen in self.possible
                    for moment in (began - BLUR, ended + BLUR)]
        wrong = []
        for flow, arrived in fared.items():
            expected = {reading.passes(flow.source, flow.destination, flow.line, flow.to_25, flow.from_25)
                        for reading in readings}
            if arrived not in expected:
                wrong.append(f"{flow.name} {'passed' if arrived else 'was stopped'}")
            self.passed += arrived
            self.stopped += not arrived
        self.checks += 1
        return wrong

    def check(self, when):
        if wrong := self.differences():
            raise AssertionError(f"{when}: {'; '.join(wrong)}")

    def becomes_right(self, when):
        """Waits until the packets fare as they must."""
        deadline = time.monotonic() + PATIENCE
        while wrong := self.differences():
            if time.monotonic() > deadline:
                raise AssertionError(f"{when}, after {PATIENCE:.0f} s: {'; '.join(wrong)}")
            time.sleep(0.02)

    def caught_up(self):
        code, said = self.attempt(["--output", "json", "status"])
        self.seen = said
        if code != DONE:
            return False
        router, = json.loads(said)["items"]
        return router["live"] and not router["error"] and router["revision"] == router["desired_revision"]

    def settle(self, when, at_once=True):
        """The service says that it enforces the database's revision, without an error: and it does. `at_once`: not
        only after a moment, as after what gives no new revision."""
        try:
            self.enforced(self.caught_up, "the database's revision, without an error")
        except AssertionError as error:
            raise AssertionError(f"{when}: {error}\nstatus: {self.seen}") from None
        self.settled()
        (self.check if at_once else self.becomes_right)(when)

    def owned(self):
        return "flags owner" in self.network.router.nft("list", "table", "inet", "smtpfence")

    def story(self):
        return "\n".join(["the steps were:", *self.steps, "the journal's end:", self.journal()[-4000:],
                          self.whereabouts()])

    def close(self):
        if self.process:
            self.kill()
        for folder in (self.state, os.path.dirname(self.database)):
            subprocess.run(["umount", folder], check=False)
        super().close()
