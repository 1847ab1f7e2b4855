"""explain of prefixes, of routers whose table is gone, and its JSON; the causes of a plan. On the kernel of a network
namespace of this process."""

import unittest

from kernel_test import KernelCase, nft, setUpModule  # noqa: F401 (unittest calls setUpModule)
from program import CHANGES, CONFLICT


class Gone(KernelCase):
    def test_a_router_without_its_table_disagrees(self):
        self.run_program("apply")
        nft("delete", "table", "inet", "smtpfence")
        for subject in ("100.64.3.7", "192.0.2.1"):
            with self.subTest(subject=subject):
                result = self.run_program("--output", "json", "explain", subject)
                self.assertEqual((result.json["kernel_agrees"], result.json["kernel_verdict"]), (False, "pass"))
                self.assertIn("smtpfence apply", result.err)
        self.assertIn("DIFFERS", self.run_program("explain", "100.64.3.7").out)
        self.assertIsNone(self.json("explain", "100.64.3.7", "--at", "2020-01-01T00:00:00Z")["kernel_agrees"])

    def test_so_does_one_that_is_enlisted(self):
        self.start()
        self.stop()
        nft("delete", "table", "inet", "smtpfence")
        self.assertIs(self.json("explain", "100.64.3.7")["kernel_agrees"], False)


class Subjects(KernelCase):
    def test_a_customer_is_a_list_however_much_he_holds(self):
        self.run_program("assign", "c2", "100.64.3.8")
        self.assertEqual([item["address"] for item in self.listed("explain", "c2")], ["100.64.3.8"])
        self.assertEqual(len(self.listed("explain", "c1")), 2)
        self.assertEqual(self.json("explain", "100.64.3.8")["address"], "100.64.3.8")

    def test_towards_a_destination_only_what_can_reach_it_counts(self):
        self.assertEqual([item["address"] for item in self.listed("explain", "c1", "--to", "203.0.113.10")], ["100.64.3.7"])
        self.run_program("assign", "c4", "100.64.3.9")
        self.assertIn("c4 holds no address that can send to 2001:db8::1",
                      self.run_program("explain", "c4", "--to", "2001:db8::1").err)

    def test_an_exemption_without_an_address_is_said(self):
        self.run_program("exempt", "grant", "c5", "--reason", "x", "--until", "2099-01-01T00:00:00Z", "--no-wait")
        self.assertIn("exemption until 2099-01-01T00:00:00Z lies dormant", self.run_program("explain", "c5").err)

    def test_a_prefix_whose_parts_differ_has_no_one_answer(self):
        self.run_program("pool", "add", "100.64.8.0/24", "--action", "pass")
        self.refused(CONFLICT, "explain", "100.64.0.0/10", saying="pool 100.64.8.0/24, 100.64.3.7/32 of customer 'c1'")
        self.assertEqual(self.json("explain", "100.64.8.0/24")["verdict"], "pass")
        self.assertEqual(self.json("explain", "2001:db8:1000:700::/56")["customer"], "c1")
        self.run_program("assign", "c2", "100.64.8.0/23")
        result = self.run_program("--output", "json", "explain", "c2")
        self.assertEqual(result.json["items"][0]["address"], "100.64.8.0/23")
        self.assertIn("pool 100.64.8.0/24", result.err)


class Causes(KernelCase):
    def causes(self):
        return {(item["verb"], item["what"].split()[0]): item["cause"]
                for item in self.json("plan", code=CHANGES)["items"] if item["where"] == "pool4" and item["object"] == "element"}

    def test_a_part_of_a_pool_names_the_pool(self):
        self.run_program("apply")
        self.run_program("pool", "add", "100.64.8.0/24", "--action", "pass")  # revision 4
        causes = self.causes()
        self.assertRegex(causes["delete", "100.64.0.0/10"], r"^gives way to pool 100\.64\.8\.0/24, added at revision 4 ")
        self.assertRegex(causes["add", "100.64.8.0/24"], r"^added at revision 4 ")
        self.assertRegex(causes["add", "100.64.0.0/21"], r"^part of pool 100\.64\.0\.0/10, added at revision 2 ")
        self.run_program("apply")
        self.run_program("pool", "remove", "100.64.8.0/24")
        causes = self.causes()
        self.assertRegex(causes["delete", "100.64.8.0/24"], r"^removed at revision 5 ")
        self.assertRegex(causes["delete", "100.64.0.0/21"], r"^part of pool 100\.64\.0\.0/10, added at revision 2 ")
        self.assertRegex(causes["add", "100.64.0.0/10"], r"^whole again: added at revision 2 ")
        self.run_program("apply")
        nft("add", "element", "inet", "smtpfence", "pool4", "{ 198.18.0.0/15 : goto consumer_drop }")
        self.assertEqual(self.causes()["delete", "198.18.0.0/15"], "never in the database")

    def test_parts_of_a_pool_that_is_gone_name_it_too(self):
        self.run_program("pool", "add", "10.0.0.0/23")  # revision 4
        self.run_program("pool", "add", "10.0.1.0/24", "--action", "pass")
        self.run_program("apply")
        self.run_program("pool", "remove", "10.0.0.0/23", "10.0.1.0/24")
        self.assertRegex(self.causes()["delete", "10.0.0.0/24"], r"^part of pool 10\.0\.0\.0/23, removed at revision 6 ")


if __name__ == "__main__":
    unittest.main()
