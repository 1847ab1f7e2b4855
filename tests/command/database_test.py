"""init, check, audit, revert, import and export; and databases that are missing, broken, locked or full."""

import contextlib
import os
import re
import sqlite3
import subprocess
import time
import unittest

from program import CONFLICT, DENIED, FAILED, INVALID, NOT_FOUND, PATIENCE, PROGRAM, ProgramCase

PRIVATE_MOUNTS = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../packaging/private_mounts.py")


class Init(ProgramCase):
    def test_creates_then_has_nothing_to_do(self):
        url = f"sqlite:{self.path('new/sub/x.db')}"
        made = self.json("--database", url, "init")
        self.assertEqual((made["database"], made["from"]), (url, 0))
        again = self.json("--database", url, "init")
        self.assertEqual((again["from"], again["to"]), (made["to"], made["to"]))
        self.assertIn("already", self.run_program("init").out)

    def test_refuses_a_newer_database(self):
        with sqlite3.connect(self.database) as session:
            session.execute("PRAGMA user_version = 99")
        self.assertIn("99", self.run_program("init", code=FAILED).err)
        self.assertIn("99", self.run_program("relay", "list", code=FAILED).err)

    def test_other_commands_create_nothing(self):
        missing = self.path("missing.db")
        result = self.run_program("--database", f"sqlite:{missing}", "relay", "add", "203.0.113.10", code=FAILED)
        self.assertIn("smtpfence init", result.err)
        self.assertFalse(os.path.exists(missing))


class Check(ProgramCase):
    def test_a_good_database(self):
        self.populate()
        checked = self.json("check", "--strict")
        self.assertEqual((checked["usable"], checked["revision"]), (True, 3))
        self.assertTrue(any("source addresses not enforced" in warning for warning in checked["warnings"]))

    def test_doubts_are_warnings(self):
        self.run_program("pool", "add", "100.64.0.0/10", "--action", "observe")
        self.run_program("relay", "add", "100.64.0.25")
        result = self.run_program("check", "--strict")
        self.assertIn("100.64.0.25", result.err)
        self.assertIn("warning", result.err)
        with sqlite3.connect(self.database) as session:
            session.execute("DELETE FROM relay")
            session.execute("UPDATE pool SET action = 'drop'")
        self.assertEqual(self.run_program("check").err.count("no relay"), 1)
        self.assertEqual(self.run_program("check", "--strict", code=FAILED).err.count("no relay"), 1)

    def test_what_can_not_be_used_is_a_warning_or_with_strict_a_failure(self):
        newer = self.path("newer.db")
        with sqlite3.connect(newer) as session:
            session.execute("PRAGMA user_version = 99")
        self.write("garbage.db", b"this is no database" * 1000)
        for name in ("missing.db", "newer.db", "garbage.db"):
            with self.subTest(name=name):
                url = ("--database", f"sqlite:{self.path(name)}")
                self.assertFalse(self.json(*url, "check")["usable"])
                self.assertIn(name, self.run_program(*url, "check").err)
                self.run_program(*url, "check", "--strict", code=FAILED)

    def test_an_invalid_configuration(self):
        for text in ("[metrics]\n", "database = 3\n", "databas = \"x\"\n", "[[source]]\nname = \"x\"\n", "= 3\n"):
            with self.subTest(text=text):
                configuration = self.write("config.toml", text)
                result = self.run_program("--config", configuration, "check", code=INVALID)
                self.assertIn("config.toml:1", result.err)
                self.assertEqual(result.out, "")

    def test_a_configuration_that_may_not_be_read(self):
        configuration = self.write("config.toml", "")
        os.chmod(configuration, 0)
        result = self.run_program("--config", configuration, "check", code=DENIED,
                                  wrapper=("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"))
        self.assertIn("ermission denied", result.err)


class Audit(ProgramCase):
    def test_items(self):
        self.populate()
        self.run_program("--operator", "alice", "exempt", "grant", "c1", "--reason", "runs a server", "--no-wait")
        entries = self.listed("audit")
        self.assertEqual(set(entries[0]), {"time", "revision", "login", "operator", "host", "command", "object", "customer",
                                           "prefix", "reason", "before", "after"})
        last = entries[-1]
        self.assertEqual((last["command"], last["object"], last["customer"], last["reason"], last["before"], last["operator"]),
                         ("exempt grant", "exemption", "c1", "runs a server", None, "alice"))
        self.assertEqual(last["after"]["customer"], "c1")
        self.assertTrue(last["time"].endswith("Z"))

    def test_filters(self):
        self.populate()
        self.run_program("--operator", "bob", "assign", "c2", "100.64.3.8")
        count = lambda *words: len(self.listed("audit", *words))
        self.assertEqual(count("--customer", "c2"), 2)
        self.assertEqual(count("--operator", "bob"), 2)
        self.assertEqual(count("--prefix", "100.64.3.8"), 2)  # itself and the pool
        self.assertEqual(count("--until", "2020-01-01T00:00:00Z"), 0)
        self.assertEqual(count("--since", "2100-01-01T00:00:00Z"), 0)
        self.assertGreater(count("--since", "2020-01-01T00:00:00Z"), 5)
        self.assertEqual(count("--customer", "nobody"), 0)

    def test_a_table_names_who_and_what(self):
        self.run_program("--operator", "alice", "relay", "add", "203.0.113.10")
        table = self.run_program("audit").out
        self.assertIn("alice (", table)
        self.assertIn("new prefix=203.0.113.10/32", table)

    def test_a_table_names_what_was_changed(self):
        self.populate()
        self.run_program("exempt", "grant", "c1", "--reason", "x", "--no-wait")
        self.run_program("exempt", "revoke", "c1", "--reason", "y", "--no-wait")
        self.run_program("pool", "set", "100.64.0.0/10", "--action", "observe", "--confirm")
        *_, revoked, changed = self.run_program("audit").out.splitlines()
        self.assertRegex(revoked, r"exempt revoke +exemption c1 +y +changed revoke_reason")
        self.assertRegex(changed, r"pool set +pool 100\.64\.0\.0/10 +- +changed action: drop -> observe")


class Revert(ProgramCase):
    def test_puts_back_and_says_what_changed_since(self):
        self.populate()
        self.run_program("pool", "set", "100.64.0.0/10", "--action", "observe", "--confirm")  # revision 4
        self.assertEqual(self.json("revert", "4", "--dry-run")["objects"], 1)
        self.assertEqual(self.listed("pool", "list")[0]["action"], "observe")
        done = self.json("revert", "4")
        self.assertEqual((done["reverted"], done["objects"], done["revision"]), (4, 1, 5))
        self.assertEqual(self.listed("pool", "list")[0]["action"], "drop")
        self.run_program("pool", "set", "100.64.0.0/10", "--action", "reject")
        self.refused(CONFLICT, "revert", "4", saying="100.64.0.0/10")
        self.refused(NOT_FOUND, "revert", "99")


class Bulk(ProgramCase):
    records = ('{"op":"relay","prefix":"203.0.113.10"}\n{"op":"pool","prefix":"100.64.0.0/10","name":"north"}\n'
               '{"op":"assign","customer":"c1","prefix":"100.64.3.7"}\n'
               '{"op":"exempt","customer":"c1","reason":"x","ticket":"T-1","until":"2100-01-01T00:00:00Z"}\n')

    def load(self, records, *words, **options):
        return self.json("import", "-", "--format", "jsonl", *words, input=records, **options)

    def test_counts_and_revision(self):
        loaded = self.load(self.records, "--source", "crm")
        self.assertEqual((loaded["added"], loaded["changed"], loaded["removed"], loaded["revision"], loaded["dry_run"]),
                         (4, 0, 0, 1, False))
        again = self.load(self.records, "--source", "crm")
        self.assertEqual((again["added"] + again["changed"], again["revision"]), (0, 1))
        self.assertEqual(self.listed("relay", "list")[0]["source"], "crm")

    def test_from_a_file(self):
        path = self.write("a.csv", "customer,prefix\nc1,100.64.3.7\n")
        self.assertEqual(self.json("import", path, "--format", "csv", "--what", "assignments")["added"], 1)
        self.assertIn("0 added, 0 changed, 1 unchanged",
                      self.run_program("import", path, "--format", "csv", "--what", "assignments").out)

    def test_a_dry_run_writes_nothing(self):
        self.assertEqual(self.load(self.records, "--dry-run")["added"], 4)
        self.assertEqual(self.revision(), 0)
        self.assertEqual(self.listed("relay", "list"), [])

    def test_what_is_exported_imports_as_unchanged(self):
        self.load(self.records, "--source", "crm")
        for what in ("relays", "pools", "assignments", "exemptions"):
            for form in ("jsonl", "csv"):
                with self.subTest(what=what, form=form):
                    exported = self.run_program("export", "--what", what, "--format", form).out
                    counts = self.json("import", "-", "--format", form, input=exported)
                    self.assertEqual((counts["added"], counts["changed"], counts["removed"], counts["unchanged"] + counts["skipped"]),
                                     (0, 0, 0, 1))
        self.assertEqual(self.run_program("export", "--what", "relays", "--output", "csv").out.split("\n")[0].split(",")[0], "op")
        self.assertEqual(self.run_program("export", "--what", "relays", "--source", "other").out, "")

    def test_errors_carry_line_numbers_and_write_nothing(self):
        good = '{"op":"relay","prefix":"203.0.113.10"}\n'
        held = '{"op":"assign","customer":"c1","prefix":"100.64.3.7"}\n'
        for code, bad in [(INVALID, "nonsense\n"), (INVALID, '{"op":"relay","prefix":"203.0.113.10/33"}\n'),
                          (INVALID, '{"op":"fence","prefix":"203.0.113.11"}\n'), (INVALID, '{"op":"relay","prefix":"203.0.113.1'),
                          (INVALID, '{"op":"relay","prefix":"203.0.113.11","colour":"red"}\n'),
                          (INVALID, '{"op":"assign","customer":"c2","prefix":"100.64.3.8","until":"2030-01-01T00:00:00"}\n'),
                          (INVALID, '{"op":"assign","customer":"\udcff","prefix":"100.64.3.8"}\n'),
                          (INVALID, '{"op":"assign","customer":"a\\u0000b","prefix":"100.64.3.8"}\n'),
                          (INVALID, "x" * (1 << 20) + "\n"), (INVALID, '{"op":"pool","prefix":"0.0.0.0/0"}\n'),
                          (CONFLICT, held + '{"op":"assign","customer":"c2","prefix":"100.64.3.7"}\n'),
                          (NOT_FOUND, '{"op":"revoke","customer":"nobody","reason":"x"}\n')]:
            with self.subTest(bad=bad[:60]):
                line = 1 + good.count("\n") + bad.strip("\n").count("\n")
                self.refused(code, "import", "-", "--format", "jsonl", input=good + bad, saying=f"line {line}",
                             errors="surrogateescape")
                self.assertEqual(self.revision(), 0)

    def test_a_file_of_the_other_format_is_recognised(self):
        for form, text, other in [("jsonl", "op,prefix\nrelay,203.0.113.10\n", "csv"), ("jsonl", "customer\nc1\n", "csv"),
                                  ("csv", '{"op":"relay","prefix":"203.0.113.10"}\n', "jsonl")]:
            with self.subTest(form=form, text=text):
                self.refused(INVALID, "import", "-", "--format", form, input=text, saying=f"which {'is' if other == 'csv' else 'are'} --format {other}")

    def test_a_wrong_header(self):
        self.refused(INVALID, "import", "-", "--format", "csv", "--what", "assignments", input="customer,address\nc1,100.64.3.7\n",
                     saying="line 1")

    def test_replace(self):
        first = '{"op":"assign","customer":"c1","prefix":"100.64.3.7"}\n{"op":"assign","customer":"c2","prefix":"100.64.3.8"}\n'
        swapped = '{"op":"assign","customer":"c2","prefix":"100.64.3.7"}\n{"op":"assign","customer":"c3","prefix":"100.64.3.8"}\n'
        self.run_program("assign", "c9", "100.64.3.9")
        words = ("--mode", "replace", "--source", "crm")
        self.assertEqual(self.load(first, *words)["added"], 2)
        self.load(swapped, *words)
        self.assertEqual([(item["prefix"], item["customer"]) for item in self.listed("assignment", "list")],
                         [("100.64.3.7/32", "c2"), ("100.64.3.8/32", "c3"), ("100.64.3.9/32", "c9")])
        self.refused(CONFLICT, "import", "-", "--format", "jsonl", *words, input='{"op":"assign","customer":"c1","prefix":"100.64.3.9"}\n')
        self.refused(CONFLICT, "import", "-", "--format", "jsonl", *words, input="", saying="--confirm")
        self.assertEqual(self.load("", *words, "--confirm")["removed"], 2)
        self.assertEqual([item["customer"] for item in self.listed("assignment", "list")], ["c9"])

    def test_replace_is_about_all_kinds_or_the_one_that_is_named(self):
        words = ("--mode", "replace", "--source", "crm")
        self.load(self.records, *words)
        assigned = '{"op":"assign","customer":"c1","prefix":"100.64.3.8"}\n'
        counts = self.load(assigned, *words, "--what", "assignments")
        self.assertEqual((counts["added"], counts["removed"]), (1, 1))
        self.assertTrue(self.json("exempt", "show", "c1")["active"])
        counts = self.load(assigned, *words, "--confirm")  # it takes the pool away
        self.assertEqual((counts["unchanged"], counts["removed"]), (1, 3))
        self.assertEqual(self.listed("pool", "list") + self.listed("relay", "list") + self.listed("exempt", "list"), [])
        self.assertEqual(self.json("exempt", "show", "c1")["revoke_reason"], "no longer in the file of source crm")
        self.assertIn("--what", self.run_program("import", "--help").out)

    def test_files_that_can_not_be_read(self):
        self.refused(NOT_FOUND, "import", self.path("missing.csv"), "--format", "csv", saying="missing.csv")
        self.refused(INVALID, "import", self.folder, "--format", "csv", saying="directory")
        os.chmod(self.write("secret.csv", "x"), 0)
        self.run_program("import", self.path("secret.csv"), "--format", "csv", code=DENIED,
                         wrapper=("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"))

    def test_standard_input_that_can_not_be_read_is_no_empty_file(self):
        words = ("import", "-", "--format", "jsonl", "--mode", "replace", "--source", "crm", "--confirm")
        self.run_program(*words, input='{"op":"assign","customer":"c1","prefix":"100.64.3.7"}')
        with open("/proc/self/mem", "rb") as unreadable:  # reading its first page fails
            self.refused(FAILED, *words, stdin=unreadable, saying="can't be read")
        folder = os.open(self.folder, os.O_RDONLY)
        self.refused(INVALID, *words, stdin=folder, saying="standard input: Is a directory")
        os.close(folder)
        result = self.run_program(*words[1:], wrapper=("sh", "-c", 'exec "$0" import "$@" <&-'), code=FAILED)
        self.assertIn("standard input: Bad file descriptor", result.err)
        self.assertEqual(len(self.listed("assignment", "list")), 1)

    def test_who_feeds_an_import_slowly_keeps_nobody_waiting(self):
        for mode in (), ("--mode", "replace"):
            read, write = os.pipe()
            words = [PROGRAM, "import", "-", "--format", "jsonl", "--source", "slow", *mode]
            with subprocess.Popen(words, stdin=read, stdout=subprocess.PIPE, encoding="utf-8",
                                  env=dict(self.environment, SMTPFENCE_DATABASE=self.database_url)) as slow:
                os.close(read)
                os.write(write, b'{"op":"assign","customer":"c1","prefix":"100.64.3.7"}\n')
                time.sleep(0.5)
                begin = time.monotonic()
                self.run_program("assign", "c2", f"100.64.3.{8 + len(mode)}")
                self.assertLess(time.monotonic() - begin, 5)
                with contextlib.closing(sqlite3.connect(self.database)) as session:  # nor the log from being copied
                    self.assertEqual(session.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0], 0)
                os.write(write, b'{"op":"assign","customer":"c3","prefix":"100.64.4.1"}\n')
                os.close(write)
                self.assertIn("revision", slow.communicate(timeout=PATIENCE)[0])
                self.assertEqual(slow.returncode, 0)
            self.assertEqual(len(self.listed("assignment", "list")), 4 if mode else 3)

    def test_piped_input_for_which_there_is_no_room(self):
        lines = "".join(f'{{"op":"assign","customer":"c{n}","prefix":"10.{n >> 8}.{n & 255}.1"}}\n' for n in range(3000))
        room = self.path("room")
        os.mkdir(room)
        wrapper = (PRIVATE_MOUNTS, "sh", "-c", 'mount -t tmpfs -o size=64k tmpfs "$0" && exec env TMPDIR="$0" "$@"', room)
        result = self.refused(FAILED, "import", "-", "--format", "jsonl", input=lines, wrapper=wrapper,
                              saying=f"standard input can't be kept in {room}: No space left on device")
        self.assertIn("TMPDIR", result.err)
        self.run_program("import", "-", "--format", "jsonl", input=lines)

    def test_progress_only_on_a_terminal(self):
        lines = "".join(f'{{"op":"assign","customer":"c{n}","prefix":"10.{n >> 8}.{n & 255}.1"}}\n' for n in range(20000))
        path = self.write("many.jsonl", lines)
        self.assertEqual(self.run_program("import", path, "--format", "jsonl", "--dry-run").err, "")
        ours, theirs = os.openpty()
        self.run_program("import", path, "--format", "jsonl", "--dry-run", stderr=theirs)
        os.close(theirs)
        shown = os.read(ours, 1 << 20).decode()
        os.close(ours)
        self.assertIn("records", shown)
        self.assertIn("%", shown)

    def test_views(self):
        self.load(self.records)
        blocked = self.run_program("export", "--what", "pbl").out.split()
        self.assertIn("100.64.3.6/32", blocked)
        self.assertNotIn("100.64.3.7/32", blocked)
        self.assertEqual([item["prefix"] for item in self.listed("export", "--what", "pbl")], blocked)
        self.assertEqual(self.run_program("export", "--what", "pbl", "--output", "csv").out.split(), ["prefix", *blocked])
        timeless = lambda text: re.sub(r"\d+-\d+-\d+T\d+:\d+:\d+Z", "TIME", text)
        statement = timeless(self.run_program("export", "--what", "disclosure").out)
        self.assertIn("100.64.0.0/10", statement)
        self.assertEqual(timeless(self.json("export", "--what", "disclosure")["disclosure"]), statement)
        self.assertEqual(timeless(self.run_program("export", "--what", "disclosure", "--format", "text").out), statement)


class Broken(ProgramCase):
    add = ("relay", "add", "203.0.113.77")

    def test_garbage(self):
        url = f"sqlite:{self.write('garbage.db', b'this is no database' * 1000)}"
        for words in (self.add, ("relay", "list"), ("status",), ("init",)):
            self.assertIn("garbage.db", self.run_program("--database", url, *words, code=FAILED).err)

    def test_locked_by_a_writer_that_does_not_end(self):
        session = sqlite3.connect(self.database, isolation_level=None)
        session.execute("BEGIN IMMEDIATE")
        self.assertIn("locked", self.run_program(*self.add, code=FAILED).err)
        self.run_program("relay", "list")  # who reads is not held up
        session.execute("ROLLBACK")
        session.close()
        self.run_program(*self.add)

    def test_check_does_not_wait_for_a_lock(self):
        with contextlib.closing(sqlite3.connect(self.database, isolation_level=None)) as session:
            session.execute("PRAGMA locking_mode = EXCLUSIVE")
            session.execute("BEGIN IMMEDIATE")
            for words, code in ((("check",), 0), (("check", "--strict"), FAILED)):
                said = self.run_program(*words, code=code)
                self.assertRegex(said.err, r"warning: .*has been locked.* for 0\.1 s")
                self.assertIn("can't be used", said.out)

    def test_read_only(self):
        for name in ("subscribers.db", ""):
            os.chmod(self.path(name), 0o444 if name else 0o555)
        wrapper = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
        self.assertIn("subscribers.db", self.run_program(*self.add, code=DENIED, wrapper=wrapper).err)
        os.chmod(self.folder, 0o755)

    def test_a_read_only_file_system(self):
        wrapper = (PRIVATE_MOUNTS, "sh", "-c",
                   'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"', self.folder)
        self.assertIn("mount it writable", self.run_program(*self.add, code=DENIED, wrapper=wrapper).err)
        self.assertIn("mount it writable", self.run_program("relay", "list", code=DENIED, wrapper=wrapper).err)

    def test_a_full_disk_keeps_what_was_there(self):
        self.populate()
        limit = os.path.getsize(self.database) + 200000
        lines = "".join(f'{{"op":"assign","customer":"c{n}","prefix":"10.{n >> 8}.{n & 255}.1"}}\n' for n in range(30000))
        path = self.write("many.jsonl", lines)
        result = self.run_program("import", path, "--format", "jsonl", code=FAILED,
                                  wrapper=("sh", "-c", 'trap "" XFSZ; exec prlimit --fsize="$0" "$@"', str(limit)))
        self.assertTrue(result.err.startswith("smtpfence: "))
        self.assertEqual(self.revision(), 3)
        self.assertEqual(len(self.listed("assignment", "list")), 2)


if __name__ == "__main__":
    unittest.main()
