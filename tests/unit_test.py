"""The service's unit file, as systemd itself reads it."""

import os
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.environ.get("SMTPFENCE", "")


class Unit(unittest.TestCase):
    def verified(self, old="", new=""):
        """What `systemd-analyze verify` finds in the unit, with the program that is tested as the installed one."""
        with open(os.path.join(HERE, "../packaging/smtpfence.service"), encoding="utf-8") as file:
            unit = file.read().replace("=smtpfence ", f"={PROGRAM} ")
        self.assertIn(f"ExecStart={PROGRAM} run\n", unit)
        self.assertIn(old, unit)
        with tempfile.TemporaryDirectory(prefix="smtpfence-unit-") as folder:
            path = os.path.join(folder, "smtpfence.service")
            with open(path, "w", encoding="utf-8") as file:
                file.write(unit.replace(old, new) if old else unit)
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", path], text=True, capture_output=True,
                                  check=False, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def test_systemd_finds_nothing(self):
        self.assertTrue(PROGRAM, "set SMTPFENCE to the path of the executable")
        self.assertEqual(self.verified(), (0, ""))

    def test_mistakes_are_found(self):
        for old, new, said in (("ProtectSystem=strict", "ProtectSystem=stern", "stern"),
                               ("WatchdogSec=60", "WatchdogSecs=60", "WatchdogSecs"),
                               ("=/bin/kill", "=/nowhere/kill", "/nowhere/kill")):
            with self.subTest(new):
                self.assertIn(said, self.verified(old, new)[1])


if __name__ == "__main__":
    unittest.main()
