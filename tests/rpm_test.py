"""The RPM's script before a removal, on a machine whose systemctl only writes down what it is asked for."""

import os
import unittest

from packaging_test import PACKAGING, PackagingCase, run

HELD = "/etc/systemd/system/networking.service.d/fence.conf"


class Removal(PackagingCase):
    SETUP = """set -e
mount -t tmpfs files "$1" && mkdir "$1/upper" "$1/work" "$1/bin"
mount -t overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" etc /etc
mount -t tmpfs run /run && mkdir -p /run/systemd/system
printf '#!/bin/sh\\necho "$@"\\nexit 1\\n' >"$1/bin/systemctl" && chmod 755 "$1/bin/systemctl"
PATH=$1/bin:$PATH
"""

    def removed(self, left, script=""):
        """What systemctl is asked for, and what is said, when `left` remain of the package, after `script`."""
        mount = os.path.join(self.folder, "mount")
        os.makedirs(mount, exist_ok=True)
        done = run(os.path.join(PACKAGING, "private_mounts.py"), "sh", "-c",
                   f'{self.SETUP}{script}\nsh "$2" {left}', "sh", mount, os.path.join(PACKAGING, "rpm/preun"))
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.splitlines(), done.stderr

    def test_what_the_network_requires_is_not_stopped(self):
        asked, said = self.removed(0)
        self.assertEqual(asked, ["--no-reload disable --now smtpfence.service",
                                 "--no-reload disable smtpfence-restore.service"])
        self.assertIn("the rules stay in the kernel", said)
        self.assertNotIn("would not come up", said)

    def test_a_drop_in_that_would_hold_the_network_is_named(self):
        conf = os.path.join(PACKAGING, "hold-network.conf")
        said = self.removed(0, f"install -D -m 644 {conf} {HELD}")[1]
        self.assertRegex(said, f"would not come up at the next start, because of: {HELD}")

    def test_an_upgrade_changes_nothing(self):
        self.assertEqual(self.removed(1), ([], ""))


if __name__ == "__main__":
    unittest.main()
