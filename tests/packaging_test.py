"""What the package brings besides the program, as systemd, sudo and groff themselves read it."""

import os
import re
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGING = os.path.realpath(os.path.join(HERE, "../packaging"))
PROGRAM = os.environ.get("SMTPFENCE", "")
UNITS = {"smtpfence.service": "smtpfence.service", "smtpfence-restore.service": "smtpfence.smtpfence-restore.service"}


def read(*path):
    with open(os.path.join(PACKAGING, *path), encoding="utf-8") as file:
        return file.read()


def run(*command, **options):
    return subprocess.run(command, text=True, capture_output=True, check=False, timeout=60, **options)


class PackagingCase(unittest.TestCase):
    def setUp(self):
        self.assertTrue(PROGRAM, "set SMTPFENCE to the path of the executable")
        folder = tempfile.TemporaryDirectory(prefix="smtpfence-packaging-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path


class Units(PackagingCase):
    def analysed(self, verb, *options, old="", new=""):
        """What systemd-analyze says of the units, with the program that is tested as the installed one."""
        paths = []
        for name, source in UNITS.items():
            unit = read("debian", source)
            self.assertIn("/usr/sbin/smtpfence ", unit)
            paths.append(self.write(name, unit.replace("/usr/sbin/smtpfence", PROGRAM).replace(old or "\0", new)))
        done = run("systemd-analyze", verb, *options, *paths)
        return done.returncode, done.stdout + done.stderr

    def test_systemd_finds_nothing(self):
        self.assertEqual(self.analysed("verify", "--man=no"), (0, ""))

    def test_mistakes_are_found(self):
        for old, new, said in (("ProtectSystem=strict", "ProtectSystem=stern", "stern"),
                               ("WatchdogSec=60", "WatchdogSecs=60", "WatchdogSecs"),
                               ("=/bin/sh", "=/nowhere/sh", "/nowhere/sh")):
            with self.subTest(new):
                self.assertIn(said, self.analysed("verify", "--man=no", old=old, new=new)[1])

    def test_exposure(self):
        """1.7 or better, of 10."""
        options = ("--offline=yes", "--threshold=17")
        code, said = self.analysed("security", *options)
        self.assertEqual(code, 0, said)
        self.assertNotEqual(self.analysed("security", *options, old="CapabilityBoundingSet=CAP_NET_ADMIN")[0], 0)


class Support(PackagingCase):
    """Whether sudo lets support staff run a command: sudo -l says so for another user."""

    def setUp(self):
        super().setUp()
        rules = read("debian", "smtpfence.sudoers")
        self.assertIn("\n%smtpfence-support ALL", rules)
        self.write("smtpfence", rules.replace("%smtpfence-support", "nobody").replace("/usr/sbin/smtpfence", PROGRAM))
        os.chmod(os.path.join(self.folder, "smtpfence"), 0o440)

    def allowed(self, *words):
        script = 'mount --bind "$1" /etc/sudoers.d && shift && exec sudo -n -l -U nobody "$@"'
        done = run(os.path.join(PACKAGING, "private_mounts.py"), "sh", "-c", script, "sh", self.folder, PROGRAM, *words)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        self.assertNotRegex(done.stderr, "syntax error|parse error")
        return done.returncode == 0

    def test_what_the_desk_needs(self):
        for words in (("explain", "100.64.3.7"), ("explain", "c1", "--at=2026-12-24T18:00:00Z"), ("customer", "show", "c1"),
                      ("exempt", "grant", "c1", "--reason", "runs a mail server", "--ticket", "T-1", "--for", "30d"),
                      ("exempt", "revoke", "c1", "--reason=abuse", "--no-wait"), ("exempt", "list", "--expiring", "30d"),
                      ("attempts", "--since", "7d", "--pool", "100.64.0.0/10", "--output", "csv"), ("status",),
                      ("explain", "100", "--customer"), ("exempt", "show", "c1")):
            with self.subTest(words):
                self.assertTrue(self.allowed(*words))

    def test_no_way_out(self):
        for words in (("clear", "--yes"), ("pool", "add", "0.0.0.0/0"), ("import", "/etc/shadow"), ("run",), (), ("exempt",),
                      ("explain", "c1", "--config", "/tmp/x"), ("explain", "c1", "--config=/tmp/x"),
                      ("--config", "/tmp/x", "explain", "c1"), ("--database", "sqlite:/tmp/x", "status"),
                      ("exempt", "list", "--database=sqlite:/tmp/x"), ("status", "--operator", "boss"),
                      ("exempt", "grant", "c1", "--reason", "x --config /tmp/x"), ("exempt", "grant", "c1", "--confirm"),
                      ("explain", "--", "c1"), ("explain\n--config=/tmp/x",), ("customer", "list"), ("audit",), ("export", "--what", "pbl"),
                      ("status", "", "--config=/tmp/x"), ("statuss",), ("explain", "-h")):
            with self.subTest(words):
                self.assertFalse(self.allowed(*words))


class Manual(PackagingCase):
    def page(self, *words):
        done = run(sys.executable, os.path.join(PACKAGING, "manual.py"), *words)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def formatted(self, page):
        done = run("groff", "-man", "-ww", "-Tutf8", "-P-cbou", input=page)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def test_every_command_is_there(self):
        text = self.formatted(self.page("commands", PROGRAM))
        for words in (r"exempt grant \[OPTIONS\] CUSTOMER", r"--reason TEXT", r"smtpfence relay add 203\.0\.113\.10",
                      r"pool set \[OPTIONS\]", r"--database URL", "EXIT STATUS", r"clear \[OPTIONS\]"):
            self.assertRegex(text, words)

    def test_every_key_is_there(self):
        text = self.formatted(self.page("configuration", os.path.join(PACKAGING, "smtpfence.toml")))
        for key in re.findall(r"^(?:# )?(\w+ = .*)$", read("smtpfence.toml"), re.MULTILINE):
            self.assertIn(key, text)


if __name__ == "__main__":
    unittest.main()
