"""Words, options, help, exit codes of wrong use, and where output goes."""

import os
import subprocess
import unittest

from program import CONFLICT, FAILED, INVALID, NOT_FOUND, PROGRAM, USAGE, ProgramCase

COMMANDS = [
    "init", "relay add", "relay remove", "relay list", "pool add", "pool set", "pool remove", "pool list",
    "customer show", "customer list", "assign", "release", "assignment list", "exempt grant", "exempt renew",
    "exempt revoke", "exempt show", "exempt list", "import", "export", "revert", "audit", "check", "plan", "apply", "run",
    "status", "router list", "router forget", "explain", "probe", "attempts", "clear",
]


class Help(ProgramCase):
    def test_every_command_and_group_has_help_with_examples(self):
        groups = {command.split()[0] for command in COMMANDS if " " in command}
        for words in [(), *[(group,) for group in sorted(groups)], *[command.split() for command in COMMANDS]]:
            with self.subTest(words=words):
                result = self.run_program(*words, "--help")
                self.assertIn("Usage: smtpfence", result.out)
                examples = result.out.partition("Examples:\n")[2]
                self.assertIn("smtpfence " + " ".join(words[:1]), examples)
                self.assertEqual(result.err, "")

    def test_help_names_every_command(self):
        top = self.run_program("--help").out
        for command in COMMANDS:
            self.assertIn(command.split()[0], top)

    def test_version(self):
        self.assertRegex(self.run_program("--version").out, r"^smtpfence \d+\.\d+\.\d+\n$")

    def test_help_needs_no_database(self):
        self.database_url = None
        self.run_program("relay", "list", "--help")


class WrongUse(ProgramCase):
    def test_usage_errors(self):
        for words in [(), ("nonsense",), ("relay",), ("relay", "nonsense"), ("relay", "add"), ("relay", "list", "extra"),
                      ("relay", "add", "203.0.113.10", "--nonsense"), ("pool", "set", "--action", "drop"),
                      ("pool", "set", "--all", "100.64.0.0/10", "--action", "drop"), ("pool", "set", "100.64.0.0/10"),
                      ("assign", "c1"), ("release",), ("exempt", "grant", "c1"), ("exempt", "revoke", "c1"),
                      ("exempt", "grant", "c1", "--reason", "x", "--for", "1d", "--until", "2030-01-01T00:00:00Z"),
                      ("exempt", "grant", "c1", "--reason", "x", "--wait", "1s", "--no-wait"),
                      ("import", "-"), ("import", "--format", "csv"), ("export",), ("revert",), ("router", "forget"),
                      ("import", "-", "--format", "jsonl", "--mode", "replace"), ("explain",), ("clear",),
                      ("--output",), ("relay", "list", "--output"), ("status", "--watch"),
                      ("export", "--what", "pbl", "--source", "crm"), ("export", "--what", "pools", "--output", "json"),
                      ("plan", "--format", "nft", "--output", "json"), ("plan", "--output", "csv", "--format", "nft"),
                      ("explain", "100.64.3.7", "--to", "2001:db8::1")]:
            with self.subTest(words=words):
                self.refused(USAGE, *words)

    def test_commands_of_later_releases_are_unknown(self):
        for words in [("suspects",), ("report",), ("status", "--check"), ("init", "--roles")]:
            with self.subTest(words=words):
                self.refused(USAGE, *words)

    def test_values_that_do_not_parse(self):
        for words in [("relay", "list", "--output", "xml"), ("relay", "list", "--color", "pink"),
                      ("relay", "add", "host.example"), ("relay", "add", ""), ("relay", "add", "203.0.113.10/33"),
                      ("relay", "add", "203.0.113.10/24"), ("relay", "add", "::ffff:203.0.113.10"),
                      ("relay", "add", "203.0.113.010"), ("relay", "add", "fe80::1%eth0"),
                      ("relay", "add", "203.0.113.10", "--note", "two\nlines"),
                      ("relay", "add", "203.0.113.10", "--note", "\udcff"), ("relay", "add", "203.0.0.0/16"),
                      ("pool", "add", "0.0.0.0/0"), ("pool", "add", "::/0"), ("pool", "add", "100.64.0.0/10", "--action", "block"),
                      ("pool", "set", "--all", "--action", "block"),
                      ("assign", "", "100.64.3.7"), ("assign", " c1", "100.64.3.7"), ("assign", "c\x1b1", "100.64.3.7"),
                      ("assign", "c" * 256, "100.64.3.7"), ("assign", "c1", "100.64.3.7", "--until", "2020-01-01T00:00:00Z"),
                      ("assign", "c1", "100.64.3.7", "--until", "2030-01-01T00:00:00"),
                      ("assign", "c1", "100.64.3.7", "--wait", "5"), ("assign", "c1", "100.64.3.7", "--wait", "0s"),
                      ("exempt", "grant", "c1", "--reason", ""), ("exempt", "grant", "c1", "--reason", "  "),
                      ("exempt", "grant", "c1", "--reason", "x", "--ticket", " "), ("exempt", "revoke", "c1", "--reason", " "),
                      ("exempt", "grant", "c1", "--reason", "x", "--asked-by", " "), ("--operator", " ", "relay", "list"),
                      ("audit", "--operator", ""), ("export", "--what", "pools", "--source", ""),
                      ("exempt", "grant", "c1", "--reason", "x", "--for", "-1d"),
                      ("exempt", "grant", "c1", "--reason", "x", "--for", "1.5d"),
                      ("exempt", "grant", "c1", "--reason", "x", "--until", "tomorrow"),
                      ("exempt", "grant", "c1", "--reason", "x", "--until", "2020-01-01T00:00:00Z"),
                      ("exempt", "list", "--expiring", "soon"), ("explain", "100.64.3.999"), ("explain", "100.64.3.7/8"),
                      ("explain", "100.64.3.7", "--to", "203.0.113.0/24"), ("explain", "100.64.3.7", "--at", "noon"),
                      ("revert", "one"), ("revert", "0"), ("revert", "1x"), ("revert", "99999999999999999999"),
                      ("audit", "--since", "yesterday"), ("audit", "--prefix", "c1"), ("attempts", "--since", "0d"),
                      ("attempts", "--pool", "x"), ("attempts", "--action", "x"), ("plan", "--format", "json"),
                      ("import", "-", "--format", "xml"), ("import", "-", "--format", "csv", "--mode", "merge"),
                      ("import", "-", "--format", "csv", "--what", "customers"), ("export", "--what", "everything"),
                      ("export", "--what", "pools", "--format", "text"), ("export", "--what", "pbl", "--format", "csv"),
                      ("relay", "list", "--operator", "a\tb"), ("--database", "mysql://x", "relay", "list")]:
            with self.subTest(words=words):
                self.refused(INVALID, *words)

    def test_a_word_that_is_no_command_is_named(self):
        for words, named, help_of in [(("suspects",), "unknown command 'suspects'", "smtpfence --help"),
                                      (("exempt", "grnat", "c1"), "unknown command 'grnat'", "smtpfence exempt --help"),
                                      (("--output", "json", "pools", "list"), "unknown command 'pools'", "smtpfence --help"),
                                      (("--confg=x",), "unknown option '--confg=x'", "smtpfence --help")]:
            with self.subTest(words=words):
                self.assertIn(help_of, self.refused(USAGE, *words, saying=named).err)
        self.assertIn("\\x1b", self.refused(USAGE, "\x1b[2J").err)

    def test_an_option_with_an_empty_value_takes_nothing_else_for_it(self):
        self.refused(INVALID, "pool", "add", "--name=", "100.64.0.0/16", "100.65.0.0/16", saying="name ''")
        self.refused(INVALID, "exempt", "grant", "--reason=", "c1", "--no-wait", saying="reason ''")
        self.run_program("assign", "--", "--name=", "100.64.3.7")
        self.assertEqual(self.json("customer", "show", "--", "--name=")["customer"], "--name=")

    def test_a_time_without_zone_names_its_readings(self):
        self.refused(INVALID, "assign", "c1", "100.64.3.7", "--until", "2030-01-01T00:00:00", saying="2030-01-01T00:00:00Z")

    def test_host_bits_name_the_prefix_that_was_meant(self):
        self.refused(INVALID, "pool", "add", "100.64.3.7/24", saying="100.64.3.0/24")


class GlobalOptions(ProgramCase):
    def test_before_and_after_the_command(self):
        self.populate()
        for words in [("--output", "jsonl", "relay", "list"), ("relay", "--output", "jsonl", "list"),
                      ("relay", "list", "--output", "jsonl"), ("relay", "list", "--output=jsonl")]:
            with self.subTest(words=words):
                self.assertTrue(self.run_program(*words).out.startswith('{"prefix":"203.0.113.10/32"'))

    def test_the_option_names_the_database_before_the_environment_does(self):
        other = f"sqlite:{self.path('other.db')}"
        self.run_program("init", "--database", other)
        self.populate()
        self.assertEqual(self.listed("relay", "list", "--database", other), [])

    def test_the_environment_names_it_before_the_configuration(self):
        self.populate()
        configuration = self.write("config.toml", 'database = "sqlite:/nonexistent/x.db"\n')
        self.assertEqual(len(self.listed("--config", configuration, "relay", "list")), 2)

    def test_the_configuration_names_it(self):
        self.populate()
        configuration = self.write("config.toml", f'database = "{self.database_url}"\n')
        self.database_url = None
        self.assertEqual(len(self.listed("--config", configuration, "relay", "list")), 2)

    def test_a_named_configuration_must_be_there(self):
        for name in ("missing.toml", ""):
            self.run_program("--config", self.path(name), "check", code=INVALID)

    def test_a_database_beside_a_named_configuration_is_no_way_round_it(self):
        self.populate()
        broken = self.write("config.toml", "unknown = 1\n")
        for name in (broken, self.path("missing.toml")):
            self.run_program("--config", name, "exempt", "grant", "c9", "--reason", "x", "--no-wait", code=INVALID)
        self.run_program("exempt", "show", "c9", code=NOT_FOUND)

    def test_nothing_names_a_database(self):
        configuration = self.write("config.toml", 'router = "edge1"\n')
        self.database_url = None
        result = self.run_program("--config", configuration, "relay", "list", code=INVALID)
        self.assertIn("SMTPFENCE_DATABASE", result.err)

    def test_the_operator_is_recorded_beside_the_login(self):
        self.run_program("--operator", "alice", "relay", "add", "203.0.113.10")
        self.run_program("relay", "add", "203.0.113.11", environment={"SMTPFENCE_OPERATOR": "bob"})
        self.run_program("relay", "add", "203.0.113.12")
        entries = self.listed("audit")
        self.assertEqual([entry["operator"] for entry in entries], ["alice", "bob", None])
        self.assertEqual(len({entry["login"] for entry in entries}), 1)
        self.assertTrue(entries[0]["login"])

    def test_two_dashes_end_options(self):
        self.run_program("assign", "--", "--help", "100.64.9.9")
        self.assertEqual(self.json("customer", "show", "--", "--help")["customer"], "--help")
        self.assertEqual(self.listed("customer", "list", "--")[0]["customer"], "--help")

    def test_customers_may_be_called_like_commands_and_options(self):
        for name in ("list", "show", "relay", "help", "grant", "[a,b]", "++", "-1", "--quiet"):
            with self.subTest(name=name):
                self.run_program("exempt", "grant", "--reason", "x", "--no-wait", "--", name)
                self.assertEqual(self.json("exempt", "show", "--", name)["customer"], name)
                self.assertEqual(self.json("customer", "show", "--", name)["customer"], name)

    def test_quiet(self):
        result = self.run_program("--quiet", "relay", "add", "203.0.113.10")
        self.assertEqual((result.out, result.err), ("", ""))
        result = self.run_program("--quiet", "status")
        self.assertEqual((result.out, result.err), ("", ""))
        self.assertEqual(self.run_program("--quiet", "relay", "list").out.count("\n"), 2)


class Streams(ProgramCase):
    def test_no_colour_where_output_is_no_terminal(self):
        self.populate()
        for words, environment, colour in [((), {}, False), (("--color", "always"), {}, True),
                                           (("--color", "always"), {"NO_COLOR": "1"}, True),
                                           (("--color", "never"), {}, False)]:
            with self.subTest(words=words, environment=environment):
                out = self.run_program(*words, "pool", "list", environment=environment).out
                self.assertEqual("\x1b[" in out, colour)

    def terminal_output(self, *words, environment=None):
        ours, theirs = os.openpty()
        try:
            self.run_program(*words, environment=environment, stdout=theirs)
            return os.read(ours, 65536).decode()
        finally:
            os.close(ours)
            os.close(theirs)

    def test_colour_on_a_terminal_unless_refused(self):
        self.populate()
        self.assertIn("\x1b[", self.terminal_output("pool", "list"))
        self.assertNotIn("\x1b[", self.terminal_output("pool", "list", environment={"NO_COLOR": "1"}))
        self.assertNotIn("\x1b[", self.terminal_output("pool", "list", environment={"TERM": "dumb"}))
        self.assertNotIn("\x1b[", self.terminal_output("pool", "list", "--color", "never"))

    def test_tables_show_what_a_terminal_would_act_on(self):
        self.run_program("relay", "add", "203.0.113.10", "--note", "a\u202eb\u200bc")
        self.assertIn("a\\u202eb\\u200bc", self.run_program("relay", "list").out)
        self.assertEqual(self.listed("relay", "list")[0]["note"], "a\u202eb\u200bc")

    def test_messages_show_it_too(self):
        result = self.run_program("customer", "show", "c\u202e1", code=NOT_FOUND)
        self.assertNotIn("\u202e", result.err)
        result = self.run_program("explain", "\x1b[2J", code=INVALID)
        self.assertNotIn("\x1b", result.err)
        result = self.run_program("\x1b[2J", code=USAGE)
        self.assertNotIn("\x1b", result.err)

    def test_errors_are_text_on_standard_error_whatever_the_style(self):
        self.refused(NOT_FOUND, "--output", "json", "customer", "show", "nobody", saying="nobody")
        self.populate()
        self.refused(CONFLICT, "--output", "json", "assign", "c2", "100.64.3.7", saying="--take")

    def test_a_list_that_fails_leaves_no_half_of_it(self):
        self.database_url = f"sqlite:{self.path('missing.db')}"
        for style in ("json", "csv"):
            for words in (("pool", "list"), ("audit",), ("exempt", "list"), ("export", "--what", "pbl")):
                with self.subTest(style=style, words=words):
                    self.assertEqual(self.run_program("--output", style, *words, code=FAILED).out, "")

    def test_a_full_standard_output_is_a_failure(self):
        self.populate()
        with open("/dev/full", "w", encoding="ascii") as full:
            for words in [("relay", "list"), ("--output", "json", "relay", "list"), ("export", "--what", "pools"),
                          ("--help",), ("--version",)]:
                with self.subTest(words=words):
                    self.assertIn("No space left", self.run_program(*words, stdout=full, code=FAILED).err)

    def test_a_closed_standard_output_is_a_failure_and_no_file_takes_its_place(self):
        self.populate()
        result = self.run_program(wrapper=("sh", "-c", 'exec "$0" relay list >&-'), code=FAILED)
        self.assertIn("standard output", result.err)
        self.run_program("relay", "list")

    def test_a_reader_that_leaves_ends_the_program_quietly(self):
        lines = "".join(f'{{"op":"assign","customer":"c{n}","prefix":"10.{n >> 8}.{n & 255}.1"}}\n' for n in range(20000))
        self.run_program("import", "-", "--format", "jsonl", input=lines)
        listing = subprocess.Popen([PROGRAM, "assignment", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=dict(self.environment, SMTPFENCE_DATABASE=self.database_url))
        listing.stdout.readline()
        listing.stdout.close()
        self.assertEqual(listing.stderr.read(), b"")
        listing.stderr.close()
        self.assertNotEqual(listing.wait(60), 0)


if __name__ == "__main__":
    unittest.main()
