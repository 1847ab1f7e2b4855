"""On Debian 12's kernel: what it lacks is found, said and made up for."""

import platform

from kernel_test import KernelCase, nft, setUpModule  # noqa: F401 (unittest calls it)


class Lacking(KernelCase):
    def test_this_is_the_kernel_of_debian_12(self):
        self.assertRegex(platform.release(), r"^6\.1\.")

    def test_status_says_what_the_kernel_lacks(self):
        self.start()
        status, = self.listed("status")
        self.assertIn("owner and persist flags: no", status["notes"])

    def test_a_flush_by_somebody_else_is_healed(self):
        self.start()
        before = nft("list", "table", "inet", "smtpfence")
        self.assertNotIn("flags owner", before)
        nft("flush", "ruleset")
        self.run_program("apply")
        self.assertEqual(nft("list", "table", "inet", "smtpfence"), before)
        self.run_program("plan")

    def test_a_right_ends_and_is_revoked_without_tolerant_deletes(self):
        self.start()
        self.run_program("exempt", "grant", "c1", "--reason", "runs a server", "--for", "2s", "--wait", "20s")
        self.run_program("exempt", "revoke", "c1", "--reason", "over", "--wait", "20s")
        self.run_program("plan")
