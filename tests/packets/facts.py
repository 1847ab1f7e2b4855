"""Oracle one of the random walk: what the database has been told, as plain dictionaries, and the commands that tell it.
Shares nothing with the program; a time is a number of seconds by the router's clock."""

import copy
import datetime
import ipaddress
import json

from network import FAMILIES
from service import CONFLICT

DONE, NOT_FOUND = 0, 3
NEVER = float("inf")
YEAR = 365 * 86400.0

CUSTOMERS = [f"c{number}" for number in range(7)]
LINES = ("100.64.20.1/32", "100.64.20.2/32", "100.64.20.8/30", "100.64.20.9/32", "100.64.21.0/28", "100.64.21.5/32",
         "198.18.1.9/32", "2001:db8:100:2000::/64", "2001:db8:100:2100::/56", "2001:db8:100:2100::7/128",
         "2001:db8:300::/56")
POOLS = ("100.64.0.0/16", "100.64.20.0/24", "100.64.20.8/29", "2001:db8:100::/40", "2001:db8:100:2000::/52")
ACTIONS = ("drop", "drop", "reject", "observe", "pass")
RELAYS = ("203.0.113.200/32", "203.0.113.12/30", "2001:db8:ffff::200/128")
FIRST_RELAYS = [family.relay for family in FAMILIES]  # never removed: the last relay can't be

# Rights whose end is so near to a moment may be over at that moment or not: the kernel's end may be two seconds early
# or late or, with more than half an hour to go, a thousandth early.
BLUR = 4.0
# No command is given while an end is so near: whether it comes before or after would be chance.
BEHIND, BEFORE = 2.0, 8.0


def network(text):
    return ipaddress.ip_network(text)


def rfc3339(seconds):
    return datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Facts:
    def __init__(self):
        self.relays = set(FIRST_RELAYS)
        self.pools = {}
        self.held = {}    # prefix: customer and end
        self.exempt = {}  # customer: end

    def copy(self):
        return copy.deepcopy(self)

    def experts(self, time):
        return [prefix for prefix, (customer, end) in self.held.items()
                if end > time and self.exempt.get(customer, 0) > time]

    def ends(self):
        return [end for _, end in self.held.values()] + list(self.exempt.values())

    def as_dictionary(self):
        return {**{("relay", prefix): True for prefix in self.relays},
                **{("pool", prefix): action for prefix, action in self.pools.items()},
                **{("line", prefix): value for prefix, value in self.held.items()},
                **{("exemption", customer): end for customer, end in self.exempt.items()}}

    def put(self, key, value):
        kind, name = key
        if kind == "relay":
            (self.relays.discard if value is None else self.relays.add)(name)
            return
        where = {"pool": self.pools, "line": self.held, "exemption": self.exempt}[kind]
        if value is None:
            where.pop(name, None)
        else:
            where[name] = value

    def without_overlaps(self, time):
        """Whether no two customers hold the same address."""
        lines = [(network(prefix), customer) for prefix, (customer, end) in self.held.items() if end > time]
        return not any(a.version == b.version and a.overlaps(b) and one != other
                       for a, one in lines for b, other in lines)

    def assign(self, customer, prefix, end, take, time):
        wanted = network(prefix)
        met = [other for other in self.held
               if network(other).version == wanted.version and network(other).overlaps(wanted)]
        for other in met:
            holder, until = self.held[other]
            if until > time and holder != customer and not (take and network(other).subnet_of(wanted)):
                return CONFLICT
        same = self.held.get(prefix)
        keep = same is not None and same[0] == customer and same[1] > time
        for other in met:
            holder, until = self.held[other]
            if until <= time or holder != customer:
                del self.held[other]
        if not keep or end is not None:
            self.held[prefix] = (customer, NEVER if end is None else end)
        return DONE

    def release(self, prefix):
        """Also of what is over: a clock that is set back doesn't make it hold again. So it is with a revocation."""
        self.held.pop(prefix, None)
        return DONE

    def grant(self, customer, end, time):
        if self.exempt.get(customer, 0) > time:
            return CONFLICT
        self.exempt[customer] = end
        return DONE

    def renew(self, customer, end, time):
        if self.exempt.get(customer, 0) <= time:
            return NOT_FOUND
        self.exempt[customer] = end
        return DONE

    def revoke(self, customer):
        self.exempt.pop(customer, None)
        return DONE


class Command:
    """Words for the program, what it reads, the exit code that is right and the facts from then on. `refusal`: an exit
    code with which it may change nothing instead."""

    def __init__(self, words, code, facts, text=None, refusal=None):
        self.words, self.code, self.facts, self.text, self.refusal = words, code, facts, text, refusal

    def __str__(self):
        return " ".join(self.words) + (f" <<END\n{self.text}END" if self.text else "")


class Desk:
    """Draws commands."""

    def __init__(self):
        self.calls = 0
        self.history = []  # revision, and the facts before and after it

    def draw(self, dice, facts, time):
        kinds = ((self.assign, 5), (self.release, 2), (self.grant, 5), (self.renew, 2), (self.revoke, 4),
                 (self.change_pool, 4), (self.change_relay, 2), (self.load, 3), (self.revert, 3))
        return dice.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0](dice, facts.copy(), time)

    def simple(self, dice, facts, time):
        """One that neither waits for the routers nor needs them."""
        kind = dice.choice((self.assign, self.release, self.grant, self.revoke))
        command = kind(dice, facts.copy(), time)
        if "exempt" in command.words:
            command.words.append("--no-wait")
        return command

    @staticmethod
    def end(dice, time):
        """Mostly none; else one that a step of the clock brings near, or that comes by itself."""
        if dice.random() < 0.5:
            return None
        return float(int(time + (dice.uniform(10, 14) if dice.random() < 0.15 else dice.uniform(60, 400))))

    def reason(self):
        self.calls += 1
        return f"call {self.calls}"

    def assign(self, dice, facts, time):
        customer, prefix, end = dice.choice(CUSTOMERS), dice.choice(LINES), self.end(dice, time)
        take = dice.random() < 0.7
        words = ["assign", customer, prefix] + (["--take"] if take else []) + (
            ["--until", rfc3339(end)] if end else [])
        return Command(words, facts.assign(customer, prefix, end, take, time), facts)

    def release(self, dice, facts, time):
        prefix = dice.choice(sorted(facts.held) or LINES)
        return Command(["release", prefix], facts.release(prefix), facts)

    def grant(self, dice, facts, time):
        customer, end = dice.choice(CUSTOMERS), self.end(dice, time)
        words = ["exempt", "grant", customer, "--reason", self.reason()] + (["--until", rfc3339(end)] if end else [])
        return Command(words, facts.grant(customer, end or time + YEAR, time), facts)

    def renew(self, dice, facts, time):
        customer, end = dice.choice(sorted(facts.exempt) or CUSTOMERS), self.end(dice, time)
        words = ["exempt", "renew", customer, "--reason", self.reason()] + (["--until", rfc3339(end)] if end else [])
        return Command(words, facts.renew(customer, end or time + YEAR, time), facts)

    def revoke(self, dice, facts, _time):
        customer = dice.choice(sorted(facts.exempt) or CUSTOMERS)
        return Command(["exempt", "revoke", customer, "--reason", self.reason()], facts.revoke(customer), facts)

    @staticmethod
    def change_pool(dice, facts, _time):
        prefix, action, verb = dice.choice(POOLS), dice.choice(ACTIONS), dice.choice(("add", "set", "remove"))
        known = facts.pools.get(prefix)
        words = ["pool", verb, prefix]
        words += (["--action", action] if verb != "remove" else []) + (["--confirm"] if verb != "add" else [])
        if verb == "add":
            code = DONE if known in (None, action) else CONFLICT
        else:
            code = NOT_FOUND if verb == "set" and not known else DONE
        if code == DONE:
            facts.put(("pool", prefix), action if verb != "remove" else None)
        return Command(words, code, facts)

    @staticmethod
    def change_relay(dice, facts, _time):
        prefix, verb = dice.choice(RELAYS), dice.choice(("add", "remove"))
        facts.put(("relay", prefix), True if verb == "add" else None)
        return Command(["relay", verb, prefix], DONE, facts)

    def load(self, dice, facts, time):
        """An import: all of its records or none."""
        before, records = facts.copy(), {}
        for _ in range(dice.randrange(1, 9)):
            if self.add_record(dice, facts, time, records) != DONE:
                facts = before
                break
        text = "".join(json.dumps(record) + "\n" for record in records.values())
        code = CONFLICT if facts is before else DONE
        return Command(["import", "-", "--format", "jsonl", "--confirm"], code, facts, text)

    def add_record(self, dice, facts, time, records):
        """`records`: by what they are about; two that say different things about the same are refused."""
        customer, prefix, end = dice.choice(CUSTOMERS), dice.choice(LINES), self.end(dice, time)
        until = {"until": rfc3339(end)} if end else {}
        kind = dice.choice(("assign", "assign", "release", "exempt", "exempt", "revoke", "pool", "relay"))
        if kind in ("pool", "relay"):
            prefix = dice.choice(POOLS if kind == "pool" else RELAYS)
        subject = customer if kind in ("exempt", "revoke") else prefix
        if subject in records:
            return DONE
        if kind == "assign":
            records[subject] = {"op": kind, "customer": customer, "prefix": prefix, "take": True, **until}
            return facts.assign(customer, prefix, end, True, time)
        if kind == "release":
            records[subject] = {"op": kind, "prefix": prefix}
            return facts.release(prefix)
        if kind == "exempt":
            records[subject] = {"op": kind, "customer": customer, "reason": "asked", "ticket": self.reason(), **until}
            if end or facts.exempt.get(customer, 0) <= time:
                facts.exempt[customer] = end or time + YEAR
        elif kind == "revoke":
            records[subject] = {"op": kind, "customer": customer, "reason": "asked"}
            facts.revoke(customer)
        elif kind == "pool":
            facts.pools[prefix] = dice.choice(ACTIONS)
            records[subject] = {"op": kind, "prefix": prefix, "action": facts.pools[prefix]}
        else:
            records[subject] = {"op": kind, "prefix": prefix}
            facts.relays.add(prefix)
        return DONE

    def revert(self, dice, facts, time):
        """Of a revision whose objects nobody changed since, and whose rights neither ended nor are about to."""
        present, possible = facts.as_dictionary(), []
        for revision, before, after in self.history[-6:]:
            touched = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
            values = [state.get(key) for key in touched for state in (before, after)]
            ends = [value[1] if isinstance(value, tuple) else value for value in values
                    if isinstance(value, (tuple, float))]
            if all(end > time + BEFORE for end in ends) and all(present.get(key) == after.get(key) for key in touched):
                possible.append((revision, {key: before.get(key) for key in touched}))
        if not possible:
            return self.revoke(dice, facts, time)
        revision, wanted = dice.choice(possible)
        before = facts.copy()
        for key, value in wanted.items():
            facts.put(key, value)
        code = DONE if facts.without_overlaps(time) else CONFLICT
        # A reason or a ticket may have changed, of which nothing is known here: that is refused.
        words = ["revert", str(revision), "--confirm"]
        return Command(words, code, facts if code == DONE else before, refusal=CONFLICT)

    def note(self, revision, before, after):
        self.history.append((revision, before.as_dictionary(), after.as_dictionary()))
