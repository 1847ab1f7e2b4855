"""Tests of what only some kernels have run on Debian's own, which tests/stock_kernel/run emulates.

    load_tests = on_stock_kernel("flowtable_test")
"""

import os
import pathlib
import subprocess
import sys
import unittest

from children import die_with_parent
from service import PROGRAM

HERE = pathlib.Path(__file__).resolve().parent
RUN = HERE.parent / "stock_kernel" / "run"
INSIDE = "SMTPFENCE_STOCK_KERNEL"
LIMIT = 600


def on_stock_kernel(module):
    """What unittest loads instead of the module's own tests: one that runs them there."""
    class OnStockKernel(unittest.TestCase):
        def test_everything_on_debians_own_kernel(self):
            done = subprocess.run([RUN, "--limit", str(LIMIT), "env", f"SMTPFENCE={PROGRAM}", f"{INSIDE}=1",
                                   sys.executable, "-m", "unittest", "-v", module],
                                  cwd=HERE, text=True, capture_output=True, check=False, preexec_fn=die_with_parent)
            print(done.stdout)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertNotIn("skipped=", done.stdout)
            self.assertNotIn("Ran 0 tests", done.stdout)

    def load_tests(loader, tests, _pattern):
        return tests if INSIDE in os.environ else loader.loadTestsFromTestCase(OnStockKernel)
    return load_tests
