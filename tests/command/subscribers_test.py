"""relay, pool, customer, assign, release, assignment and exempt: what is written, what is refused, what is printed."""

import unittest

from program import CONFLICT, DONE, NOT_ENFORCED, NOT_FOUND, ProgramCase


class Fenced(ProgramCase):
    def test_relays(self):
        added = self.json("relay", "add", "203.0.113.10", "2001:db8:25::/64", "--note", "mx")
        self.assertEqual(added, {"version": 1, "revision": 1, "added": ["203.0.113.10/32", "2001:db8:25::/64"],
                                 "unchanged": []})
        again = self.json("relay", "add", "203.0.113.10", "--note", "mx")
        self.assertEqual((again["revision"], again["unchanged"]), (1, ["203.0.113.10/32"]))
        self.refused(CONFLICT, "relay", "add", "203.0.113.10", "--note", "other")
        self.assertEqual(self.listed("relay", "list"), [
            {"prefix": "203.0.113.10/32", "note": "mx", "source": "manual"},
            {"prefix": "2001:db8:25::/64", "note": "mx", "source": "manual"}])
        removed = self.json("relay", "remove", "203.0.113.10", "203.0.113.99")
        self.assertEqual((removed["removed"], removed["unchanged"]), (["203.0.113.10/32"], ["203.0.113.99/32"]))

    def test_all_prefixes_of_a_command_or_none(self):
        self.refused(7, "relay", "add", "203.0.113.10", "203.0.113.0/8")
        self.run_program("pool", "add", "100.64.0.0/10")
        self.refused(CONFLICT, "pool", "add", "100.128.0.0/10", "100.64.0.0/10", "--action", "reject")

    def test_relays_are_as_wide_as_the_configuration_says(self):
        configuration = self.write("config.toml", "[relay]\nwidest4 = 20\n")
        self.refused(7, "relay", "add", "203.0.112.0/20")
        self.run_program("--config", configuration, "relay", "add", "203.0.112.0/20")

    def test_the_last_relay_stays_while_a_pool_is_closed(self):
        self.populate()
        self.refused(CONFLICT, "relay", "remove", "203.0.113.10", "2001:db8:25::/64")
        self.run_program("pool", "set", "--all", "--action", "observe", "--confirm")
        self.run_program("relay", "remove", "203.0.113.10", "2001:db8:25::/64")

    def test_the_last_relay_stays_while_subscriber_interfaces_are_closed(self):
        self.run_program("relay", "add", "203.0.113.10", "203.0.113.11")
        self.run_program("relay", "remove", "203.0.113.11")
        closed = self.write("closed.toml", '[interfaces]\nsubscriber = ["bng0"]\n')
        self.refused(CONFLICT, "--config", closed, "relay", "remove", "203.0.113.10", saying="relay add")
        self.assertEqual(len(self.listed("relay", "list")), 1)
        observed = self.write("observed.toml", '[interfaces]\nsubscriber = ["bng0"]\naction = "observe"\n')
        self.run_program("--config", observed, "relay", "remove", "203.0.113.10")

    def test_a_fence_without_relay_is_written_and_doubted(self):
        unenforced = "warning: no router enforces the fence: no relay"
        result = self.run_program("--quiet", "pool", "add", "100.64.0.0/10")
        self.assertIn(unenforced, result.err)
        self.assertIn("smtpfence relay add", result.err)
        self.assertEqual(self.run_program("pool", "set", "--all", "--action", "observe", "--confirm").err, "")
        self.assertIn(unenforced, self.run_program("pool", "set", "--all", "--action", "reject").err)
        self.assertEqual(self.run_program("relay", "add", "203.0.113.10").err, "")

    def test_an_import_or_a_revert_takes_no_last_relay_either(self):
        replace = ("import", "-", "--format", "jsonl", "--mode", "replace", "--source", "crm")
        relay = '{"op":"relay","prefix":"203.0.113.10"}\n'
        other = '{"op":"assign","customer":"c1","prefix":"100.64.3.7"}\n'
        self.run_program(*replace, input=relay)
        closed = ("--config", self.write("closed.toml", '[interfaces]\nsubscriber = ["bng0"]\n'))
        for words, given in ((("revert", "1"), None), (("revert", "1", "--dry-run"), None), (replace, other)):
            self.refused(CONFLICT, *closed, *words, saying="smtpfence relay add", **({"input": given} if given else {}))
        self.run_program(*closed, *replace, input='{"op":"relay","prefix":"203.0.113.11"}\n')
        self.run_program(*closed, "revert", str(self.revision()))
        self.assertEqual([relay["prefix"] for relay in self.listed("relay", "list")], ["203.0.113.10/32"])
        self.run_program("revert", "1")
        self.assertEqual(self.listed("relay", "list"), [])

    def test_a_family_without_relay_is_doubted_wherever_it_begins(self):
        doubt = "warning: no IPv6 relay: lines in pool 2001:db8::/40 (drop) reach no relay over IPv6"
        self.run_program("relay", "add", "203.0.113.10", "2001:db8:ffff::10")
        self.run_program("pool", "add", "100.64.0.0/10")
        self.assertEqual(self.run_program("pool", "add", "2001:db8::/40").err, "")
        self.assertEqual(self.run_program("status").err.count("warning"), 0)
        self.assertIn(doubt, self.run_program("relay", "remove", "2001:db8:ffff::10").err)
        for words in (("pool", "add", "100.64.0.0/10"), ("pool", "set", "--all", "--action", "drop"), ("check",),
                      ("check", "--strict"), ("status",)):
            self.assertIn(doubt, self.run_program(*words).err, words)
        self.run_program("pool", "set", "2001:db8::/40", "--action", "observe", "--confirm")
        self.assertIn(doubt, self.run_program("revert", str(self.revision())).err)
        self.run_program("relay", "add", "2001:db8:ffff::10")
        self.assertNotIn(doubt, self.run_program("check").err)
        added = '{"op":"pool","prefix":"2001:db8:8000::/40"}\n'
        self.assertEqual(self.run_program("import", "-", "--format", "jsonl", input=added).err, "")
        self.run_program("relay", "remove", "203.0.113.10")
        self.assertIn("warning: no IPv4 relay",
                      self.run_program("import", "-", "--format", "jsonl", input=added.replace("8000", "8100")).err)

    def test_a_relay_inside_a_pool_is_doubted(self):
        self.populate()
        self.assertIn("warning", self.run_program("relay", "add", "100.64.0.25").err)

    def test_setting_all_pools_where_there_is_none_is_said(self):
        self.assertIn("there is no pool", self.run_program("pool", "set", "--all", "--action", "drop").err)

    def test_pools(self):
        added = self.json("pool", "add", "100.64.0.0/10", "2001:db8:1000::/36", "--name", "north", "--action", "reject")
        self.assertEqual(added["added"], ["100.64.0.0/10", "2001:db8:1000::/36"])
        self.run_program("pool", "add", "100.64.0.0/10", "--name", "north", "--action", "reject")
        self.refused(CONFLICT, "pool", "add", "100.64.0.0/10", "--name", "north", saying="pool set")
        self.assertEqual(self.listed("pool", "list")[0],
                         {"prefix": "100.64.0.0/10", "action": "reject", "name": "north", "source": "manual"})
        changed = self.json("pool", "set", "100.64.0.0/10", "--action", "pass", "--confirm")
        self.assertEqual((changed["changed"], changed["revision"]), (["100.64.0.0/10"], 2))
        changed = self.json("pool", "set", "--all", "--action", "pass", "--confirm")
        self.assertEqual((changed["changed"], changed["unchanged"]), (["2001:db8:1000::/36"], ["100.64.0.0/10"]))
        self.refused(NOT_FOUND, "pool", "set", "10.0.0.0/8", "--action", "drop")
        self.assertEqual(self.json("pool", "remove", "100.64.0.0/10")["removed"], ["100.64.0.0/10"])
        self.assertEqual(self.json("pool", "remove", "100.64.0.0/10")["unchanged"], ["100.64.0.0/10"])

    def test_styles(self):
        self.populate()
        self.assertEqual(self.run_program("pool", "list").out,
                         "PREFIX              ACTION  NAME   SOURCE\n"
                         "100.64.0.0/10       drop    north  manual\n"
                         "2001:db8:1000::/36  drop    north  manual\n")
        self.assertEqual(self.run_program("pool", "list", "--output", "csv").out.split("\n")[:2],
                         ["prefix,action,name,source", "100.64.0.0/10,drop,north,manual"])


class Assignments(ProgramCase):
    def test_assign(self):
        self.populate()
        given = self.json("assign", "c1", "100.64.3.8", "100.64.3.7", "--until", "2100-01-01T01:00:00+01:00")
        self.assertEqual((given["customer"], given["added"], given["changed"], given["routers"]),
                         ("c1", ["100.64.3.8/32"], ["100.64.3.7/32"], []))
        self.assertEqual(self.listed("assignment", "list", "--customer", "c1")[0]["until"], "2100-01-01T00:00:00Z")
        before = self.revision()
        self.assertEqual(self.json("assign", "c1", "100.64.3.8")["unchanged"], ["100.64.3.8/32"])
        self.assertEqual(self.revision(), before)
        self.assertEqual(self.listed("assignment", "list", "--customer", "nobody"), [])

    def test_what_another_holds_is_a_conflict_unless_taken(self):
        self.populate()
        self.refused(CONFLICT, "assign", "c2", "100.64.3.7", saying="--take")
        self.refused(CONFLICT, "assign", "c2", "100.64.3.0/24", saying="c1")
        self.refused(CONFLICT, "assign", "c2", "2001:db8:1000:700::1", "--take")
        taken = self.json("assign", "c2", "100.64.3.0/24", "--take")
        self.assertEqual(taken["taken"], [{"customer": "c1", "prefix": "100.64.3.7/32"}])
        self.assertIn("taken from c2: 100.64.3.0/24", self.run_program("assign", "c3", "100.64.3.0/24", "--take").out)

    def test_release(self):
        self.populate()
        released = self.json("release", "100.64.3.7", "100.64.3.8")
        self.assertEqual((released["released"], released["unchanged"]),
                         ([{"customer": "c1", "prefix": "100.64.3.7/32"}], ["100.64.3.8/32"]))
        before = self.revision()
        self.assertIn("nobody held", self.run_program("release", "100.64.3.7").out)
        self.assertEqual(self.run_program("release", "2001:db8:1000::/36").err, "")  # only the exact prefix
        self.assertEqual(self.revision(), before)

    def test_releasing_an_address_of_a_wider_assignment_warns_of_it(self):
        self.run_program("assign", "c1", "100.64.3.0/24")
        warned = self.run_program("release", "100.64.3.7").err
        self.assertIn("100.64.3.7/32 lies inside 100.64.3.0/24, which customer 'c1' still holds", warned)
        self.assertIn("smtpfence release 100.64.3.0/24", warned)

    def test_waiting_without_a_router(self):
        self.populate()
        waited = self.json("assign", "c2", "100.64.9.9", "--wait", "30s", code=NOT_ENFORCED)
        self.assertEqual((waited["added"], waited["routers"]), (["100.64.9.9/32"], []))
        self.assertIn("no router has reported", self.run_program("release", "100.64.9.9", "--wait", "30s", code=NOT_ENFORCED).out)
        self.assertEqual(self.listed("assignment", "list", "--customer", "c2"), [])


class Customers(ProgramCase):
    def test_show(self):
        self.populate()
        self.run_program("exempt", "grant", "c1", "--reason", "runs a server", "--ticket", "T-1", "--no-wait")
        shown = self.json("customer", "show", "c1")
        self.assertEqual([held["prefix"] for held in shown["assignments"]], ["100.64.3.7/32", "2001:db8:1000:700::/56"])
        self.assertEqual((shown["exemption"]["ticket"], shown["exemption"]["active"], shown["attempts"]), ("T-1", True, None))
        card = self.run_program("customer", "show", "c1").out
        self.assertIn("100.64.3.7/32, 2001:db8:1000:700::/56", card)
        self.assertIn("runs a server, ticket T-1", card)
        self.refused(NOT_FOUND, "customer", "show", "c2", saying="c1")

    def test_list(self):
        self.populate()
        self.run_program("exempt", "grant", "c2", "--reason", "x", "--until", "2100-01-01T00:00:00Z", "--no-wait")
        self.assertEqual(self.listed("customer", "list"), [
            {"customer": "c1", "assignments": 2, "exempt_until": None},
            {"customer": "c2", "assignments": 0, "exempt_until": "2100-01-01T00:00:00Z"}])


class Exemptions(ProgramCase):
    grant = ("exempt", "grant", "c1", "--reason", "runs a server", "--no-wait")

    def test_grant(self):
        self.populate()
        granted = self.json(*self.grant, "--ticket", "T-1", "--asked-by", "himself", "--until", "2100-01-01T00:00:00Z")
        self.assertEqual(granted, {"version": 1, "customer": "c1", "revision": 4, "until": "2100-01-01T00:00:00Z",
                                   "prefixes": ["100.64.3.7/32", "2001:db8:1000:700::/56"], "routers": []})
        shown = self.json("exempt", "show", "c1")
        self.assertEqual((shown["reason"], shown["ticket"], shown["asked_by"], shown["active"], shown["revoked"]),
                         ("runs a server", "T-1", "himself", True, None))

    def test_the_same_grant_again_writes_nothing_and_another_is_a_conflict(self):
        self.populate()
        self.run_program(*self.grant)
        before = self.revision()
        self.assertIn("exempt already", self.run_program(*self.grant).out)
        self.assertEqual(self.revision(), before)
        self.refused(CONFLICT, *self.grant, "--ticket", "T-2", saying="exempt renew")

    def test_what_held_already_is_not_enforced_without_a_router_either(self):
        self.populate()
        for words in (("exempt", "grant", "c1", "--reason", "x"), ("exempt", "revoke", "c2", "--reason", "x"),
                      ("assign", "c2", "100.64.3.8", "--wait", "1s"), ("release", "100.64.3.9", "--wait", "1s")):
            self.call("assign", "c2", "100.64.3.8")
            for _ in range(2):
                with self.subTest(words=words):
                    self.assertIn("no router has reported", self.run_program(*words, code=NOT_ENFORCED).out)
        self.run_program("exempt", "grant", "c1", "--reason", "x", "--no-wait")

    def test_an_unknown_customer_is_told_the_nearest_ids_everywhere(self):
        self.populate()
        for words in (("customer", "show", "c2"), ("exempt", "show", "c2"), ("explain", "c2"),
                      ("exempt", "renew", "c2", "--reason", "x"), ("exempt", "revoke", "c2", "--reason", "x")):
            with self.subTest(words=words):
                self.refused(NOT_FOUND, *words, saying="unknown customer 'c2': did you mean 'c1'?")
        self.refused(NOT_FOUND, "customer", "show", "zzz", saying="unknown customer 'zzz': 'customer list' shows the known ones")

    def test_grant_without_a_router_stays_committed(self):
        self.populate()
        result = self.run_program(*self.grant[:-1], code=NOT_ENFORCED)
        self.assertIn("not enforced: no router has reported", result.out)
        for style in ("--quiet", "--output=json"):
            result = self.run_program("exempt", "renew", "c1", "--reason", style, style, code=NOT_ENFORCED)
            self.assertEqual(result.err, "smtpfence: warning: not enforced: no router has reported\n")
        self.assertTrue(self.json("exempt", "show", "c1")["active"])

    def test_grant_to_whoever_holds_nothing_warns_with_similar_ids(self):
        self.populate()
        result = self.run_program("exempt", "grant", "c11", "--reason", "x", "--no-wait")
        self.assertIn("holds no address", result.err)
        self.assertIn("c1", result.err.partition("did you mean ")[2])

    def test_renew(self):
        self.populate()
        self.refused(NOT_FOUND, "exempt", "renew", "c1", "--reason", "x", "--no-wait")
        self.refused(NOT_FOUND, "exempt", "renew", "nobody", "--reason", "x", "--no-wait")
        self.run_program(*self.grant, "--for", "1d")
        renewed = self.json("exempt", "renew", "c1", "--reason", "again", "--until", "2100-01-01T00:00:00Z", "--no-wait")
        self.assertEqual(renewed["until"], "2100-01-01T00:00:00Z")
        self.assertEqual(self.json("exempt", "show", "c1")["reason"], "again")

    def test_revoke(self):
        self.populate()
        self.refused(NOT_FOUND, "exempt", "revoke", "nobody", "--reason", "x", "--no-wait")
        before = self.revision()
        self.assertIn("was not exempt", self.run_program("exempt", "revoke", "c1", "--reason", "x", "--no-wait").out)
        self.assertEqual(self.revision(), before)
        self.run_program(*self.grant)
        revoked = self.json("exempt", "revoke", "c1", "--reason", "abuse", "--no-wait")
        self.assertEqual((revoked["customer"], revoked["prefixes"][0]), ("c1", "100.64.3.7/32"))
        shown = self.json("exempt", "show", "c1")
        self.assertEqual((shown["active"], shown["revoke_reason"]), (False, "abuse"))
        self.assertIn("is not exempt any more", self.run_program("exempt", "show", "c1").out)

    def test_show_of_who_never_was_and_of_nobody(self):
        self.populate()
        self.assertEqual(self.json("exempt", "show", "c1"), {"version": 1, "customer": "c1", "exemption": None})
        self.refused(NOT_FOUND, "exempt", "show", "nobody")

    def test_list(self):
        self.populate()
        self.run_program(*self.grant, "--for", "10d")
        self.run_program("exempt", "grant", "c2", "--reason", "x", "--for", "100d", "--no-wait")
        self.assertEqual([item["customer"] for item in self.listed("exempt", "list")], ["c1", "c2"])
        self.assertEqual([item["customer"] for item in self.listed("exempt", "list", "--expiring", "2w")], ["c1"])

    def test_hundreds_of_writers_at_once_lose_nothing(self):
        from concurrent.futures import ThreadPoolExecutor
        self.populate()
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda n: self.call("assign", f"w{n}", f"100.65.0.{n}").code, range(40)))
        self.assertEqual(results, [DONE] * 40)
        self.assertEqual(self.revision(), 43)


if __name__ == "__main__":
    unittest.main()
