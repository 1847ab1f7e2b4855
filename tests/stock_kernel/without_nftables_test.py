"""On a kernel without nftables (run --without nf_tables): what needs it says so and what to do, what doesn't goes on."""

from program import DONE, FAILED, ServiceCase

REASON = "nf_tables: this kernel does not support it; load the module nf_tables"


class WithoutNftables(ServiceCase):
    def setUp(self):
        super().setUp()
        self.populate()

    def test_what_needs_the_kernel_is_refused_with_the_next_step(self):
        for words in (("plan",), ("apply",), ("clear", "--yes"), ("probe",)):
            with self.subTest(words=words):
                self.refused(FAILED, *words, saying=REASON)

    def test_what_is_loaded_at_boot_is_not(self):
        with open(self.configuration, "a", encoding="utf-8") as file:
            file.write('[boot]\npools = ["100.64.0.0/10"]\nrelays = ["203.0.113.10"]\n')
        self.refused(FAILED, "restore", saying=REASON)

    def test_the_service_does_not_start(self):
        result = self.run_program("run", code=FAILED)
        self.assertIn(REASON, result.err)
        self.assertEqual(self.listed("router", "list"), [])

    def test_explain_answers_from_the_database_and_says_that_the_kernel_was_not_asked(self):
        result = self.run_program("explain", "100.64.3.7", "--output", "json")
        self.assertIsNone(result.json["kernel_agrees"])
        self.assertEqual(result.json["verdict"], "drop")
        self.assertIn(REASON, result.err)

    def test_what_needs_only_the_database_goes_on(self):
        self.assertEqual(self.listed("status"), [])
        self.run_program("check", code=DONE)
        self.run_program("exempt", "grant", "c1", "--reason", "runs a server", "--no-wait")
        self.assertEqual(len(self.listed("exempt", "list")), 1)
