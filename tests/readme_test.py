#!/usr/bin/python3
"""README.md's shell examples, run in order as a reader would, in private network and mount namespaces.

Usage: readme_test.py; SMTPFENCE names the executable.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), ".."))
PROGRAM = os.path.realpath(os.environ.get("SMTPFENCE", os.path.join(ROOT, "build/release/smtpfence")))

# /etc and /var/lib become copies that end with the namespace, so that the examples may use the real paths.
PRIVATE = """
set -eu
cp -a /etc "$1/etc"
mount --bind "$1/etc" /etc
mkdir "$1/lib"
mount --bind "$1/lib" /var/lib
rm -rf /etc/smtpfence
mkdir /etc/smtpfence
cp "$2/packaging/smtpfence.toml" /etc/smtpfence/config.toml
ip link set lo up
cd "$1"
exec bash -euo pipefail "$1/examples.sh"
"""


class Readme(unittest.TestCase):
    def test_examples_run(self):
        with open(os.path.join(ROOT, "README.md")) as readme:
            blocks = re.findall(r"^```sh\n(.*?)^```$", readme.read(), re.MULTILINE | re.DOTALL)
        self.assertGreaterEqual(len(blocks), 5, "README.md lost its examples")
        folder = tempfile.mkdtemp(prefix="smtpfence-readme-")
        self.addCleanup(shutil.rmtree, folder)
        os.mkdir(f"{folder}/bin")
        os.symlink(PROGRAM, f"{folder}/bin/smtpfence")
        with open(f"{folder}/examples.sh", "w") as script:
            script.write("set -x\n" + "\n".join(blocks))
        environment = {"PATH": f"{folder}/bin:{os.environ['PATH']}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8", "HOME": folder}
        private = [f"{ROOT}/packaging/private_mounts.py", "unshare", "--net"]
        done = subprocess.run([*private, "bash", "-c", PRIVATE, "bash", folder, ROOT], env=environment,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        sys.stderr.write(done.stdout + done.stderr)
        self.assertEqual(done.returncode, 0, "an example of README.md failed; the last command shown is it")
        self.assertIn("table inet smtpfence", done.stdout)
        self.assertIn("100.64.3.7", done.stdout)


if __name__ == "__main__":
    unittest.main()
