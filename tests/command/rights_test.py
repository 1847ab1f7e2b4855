"""Where rights are missing: a container without CAP_NET_ADMIN, files that this user may not read. What is refused says why
and what to do, and changes nothing; what needs no right goes on."""

import os
import shutil
import stat
import unittest

from kernel_test import KernelCase, WITHOUT_RIGHT, nft, setUpModule  # noqa: F401 (unittest calls it)
from program import CHANGES, DENIED, FAILED, PROGRAM

KERNEL_COMMANDS = (("plan",), ("plan", "--format", "nft"), ("apply",), ("apply", "--confirm"), ("clear", "--yes"), ("run",),
                   ("restore",))


class Container(KernelCase):
    """Root, but without the right over this network; and root of a user namespace, whose rights end there."""
    WRAPPERS = (WITHOUT_RIGHT, ("unshare", "--user", "--map-root-user"))

    def setUp(self):
        super().setUp()
        self.run_program("apply")
        self.run_program("assign", "c2", "100.64.3.8")

    def left(self):
        """The kernel's table, and what the state directory holds."""
        files = {}
        for name in sorted(os.listdir(self.path("state"))):
            with open(self.path(f"state/{name}"), "rb") as file:
                files[name] = b"" if name == "lock" else file.read()  # which names who held it last
        return nft("list", "table", "inet", "smtpfence"), files

    def test_what_needs_the_kernel_is_refused_and_changes_nothing(self):
        before = self.left()
        for wrapper in self.WRAPPERS:
            for words in KERNEL_COMMANDS:
                with self.subTest(wrapper=wrapper, words=words):
                    self.refused(DENIED, *words, wrapper=wrapper, saying="CAP_NET_ADMIN is needed: run as root on the router, "
                                                                        "or give the container that capability")
        self.assertEqual(self.left(), before)
        self.assertEqual(self.listed("router", "list"), [])
        self.run_program("apply")

    def test_what_needs_only_the_database_goes_on(self):
        for wrapper in self.WRAPPERS:
            with self.subTest(wrapper=wrapper):
                self.run_program("exempt", "grant", "c2", "--reason", "own server", "--no-wait", wrapper=wrapper)
                self.assertEqual(len(self.listed("exempt", "list", wrapper=wrapper)), 1)
                self.run_program("exempt", "revoke", "c2", "--reason", "moved", "--no-wait", wrapper=wrapper)
                self.assertEqual(self.listed("status", wrapper=wrapper), [])
                self.assertIn("run it as root (CAP_NET_ADMIN)", self.run_program("check", "--strict", wrapper=wrapper).err)
                answer = self.run_program("explain", "100.64.3.8", "--output", "json", wrapper=wrapper)
                self.assertEqual((answer.json["verdict"], answer.json["kernel_agrees"]), ("drop", None))
                self.assertIn("warning: the kernel was not asked: nf_tables: permission denied", answer.err)


class Files(KernelCase):
    """Another user, who has CAP_NET_ADMIN and may read nothing of root's."""
    USER = 65534
    WRAPPER = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--inh-caps=-all,+net_admin",
               "--ambient-caps=+net_admin", "--bounding-set=-all,+net_admin", "--")

    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o755)
        self.run_program("apply")
        self.program = shutil.copy(PROGRAM, self.path("program"))  # the other one's folder may be root's alone

    def denied(self, *words, saying):
        self.refused(DENIED, *words, wrapper=self.WRAPPER, program=self.program, saying=saying)

    def allow(self, *names):
        """Gives files to the user, or the folder with the database."""
        for name in names:
            os.chown(self.path(name), self.USER, self.USER)

    def test_the_configuration(self):
        self.configuration = self.write("config.toml", f'database = "{self.database_url}"\n')
        self.database_url = None  # only the configuration names it
        os.chmod(self.configuration, 0o600)
        for words in (*KERNEL_COMMANDS[:-1], ("check",), ("status",), ("explain", "c1"), ("exempt", "list")):
            with self.subTest(words=words):
                self.denied(*words, saying=f"{self.configuration}: Permission denied: run as root")

    def test_the_database(self):
        self.assertFalse(os.stat(self.database).st_mode & stat.S_IROTH)
        for words in (("plan",), ("explain", "c1"), ("status",), ("relay", "list"), ("export", "--what", "pbl"),
                      ("exempt", "grant", "c1", "--reason", "x", "--no-wait")):
            with self.subTest(words=words):
                self.denied(*words, saying=f"{self.database}: Permission denied; run as a user who may write it and its folder")
        for code, words in ((0, ("check",)), (FAILED, ("check", "--strict"))):
            result = self.run_program(*words, code=code, wrapper=self.WRAPPER, program=self.program)
            self.assertIn(f"{self.database}: Permission denied", result.err)

    def test_the_state(self):
        self.allow(".", *(name for name in os.listdir(self.folder) if name.startswith("subscribers.db")))
        for mode in (0o700, 0o755):  # the folder is closed; it is open, and its files are root's
            os.chmod(self.path("state"), mode)
            before = nft("list", "table", "inet", "smtpfence")
            for words in (("apply",), ("run",), ("clear", "--yes")):
                with self.subTest(mode=mode, words=words):
                    self.denied(*words, saying=f"{self.path('state/lock')} can't be opened by this user, run as root")
            with self.subTest(mode=mode):
                result = self.run_program("restore", code=DENIED, wrapper=self.WRAPPER, program=self.program)
                self.assertIn(f"nothing was restored from {self.path('state')}, run as root or as the service's user", result.err)
                self.run_program("exempt", "grant", "c1", "--reason", f"own server {mode}", "--no-wait", wrapper=self.WRAPPER,
                                 program=self.program)
                planned = self.run_program("plan", code=CHANGES, wrapper=self.WRAPPER, program=self.program)
                self.assertIn(f"{self.path('state/fence')} is not used: it can't be opened: Permission denied; run as root",
                              planned.err)
                self.run_program("exempt", "revoke", "c1", "--reason", "moved", "--no-wait")
            self.assertEqual(nft("list", "table", "inet", "smtpfence"), before)


if __name__ == "__main__":
    unittest.main()
