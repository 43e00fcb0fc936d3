#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""scripts/test-summary.py on canned logs."""

import json

from support import SCRIPTS, Case, main, write

DOCTEST_GOOD = "[doctest] test cases: 12 | 12 passed | 0 failed | 1 skipped\n[doctest] assertions: 40 | 40 passed | 0 failed |\n"
DOCTEST_BAD = "[doctest] test cases: 12 |  9 passed |  3 failed | 0 skipped\n"
CHECK_GOOD = "Running suite(s): da3infer\n100%: Checks: 7, Failures: 0, Errors: 0\n"
CHECK_BAD = "57%: Checks: 7, Failures: 2, Errors: 1\nx.c:12:F:general:test:0: expected\n"


def entry(stdout="", result="OK", **more):
    return {"name": "da3 / test", "result": result, "stdout": stdout, **more}


class Summary(Case):
    def summarise(self, *entries, status=0, text=None):
        log = self.dir / "testlog.json"
        write(log, "".join(json.dumps(item) + "\n" for item in entries) if text is None else text)
        return self.run_command(SCRIPTS / "test-summary.py", "--meson-status", status, log)

    def expect(self, done, line, status):
        self.assertNotIn("Traceback", done.stderr)
        self.assertEqual(done.stdout.splitlines()[-1], line)
        self.assertEqual(done.returncode, status)

    def test_doctest(self):
        self.expect(self.summarise(entry(DOCTEST_GOOD)), "12 passed, 0 failed, 1 skipped", 0)

    def test_doctest_in_colour(self):
        coloured = DOCTEST_GOOD.replace("12 passed", "\x1b[1;32m12 passed\x1b[0m").replace("[doctest]", "\x1b[36m[doctest]\x1b[0m")
        self.expect(self.summarise(entry(coloured)), "12 passed, 0 failed, 1 skipped", 0)

    def test_doctest_cases_that_another_test_runs_are_not_skipped(self):
        for choice in ("-tc=usual threads", "-tse=threads", "-ts=threads", "--test-case-exclude=slow"):
            self.expect(self.summarise(entry(DOCTEST_GOOD, command=["program", choice])), "12 passed, 0 failed, 0 skipped", 0)
        for other in ("-ns", "-s", "shares-tc=1"):
            self.expect(self.summarise(entry(DOCTEST_GOOD, command=["program", other])), "12 passed, 0 failed, 1 skipped", 0)

    def test_check(self):
        self.expect(self.summarise(entry(CHECK_GOOD)), "7 passed, 0 failed, 0 skipped", 0)

    def test_check_with_two_suites(self):
        self.expect(self.summarise(entry(CHECK_GOOD + CHECK_GOOD)), "14 passed, 0 failed, 0 skipped", 0)

    def test_own_line(self):
        self.expect(self.summarise(entry("row\n5 passed, 0 failed\n")), "5 passed, 0 failed, 0 skipped", 0)
        self.expect(self.summarise(entry("5 passed, 0 failed, 2 skipped\n")), "5 passed, 0 failed, 2 skipped", 0)

    def test_silent_program_is_one_case(self):
        self.expect(self.summarise(entry("all well\n")), "1 passed, 0 failed, 0 skipped", 0)

    def test_everything_is_added_up(self):
        done = self.summarise(entry(DOCTEST_GOOD), entry(CHECK_GOOD), entry("2 passed, 0 failed\n"), entry("", "SKIP"))
        self.expect(done, "21 passed, 0 failed, 2 skipped", 0)

    def test_skipped_program_is_one_skipped_case(self):
        self.expect(self.summarise(entry("", "SKIP"), entry()), "1 passed, 0 failed, 1 skipped", 0)

    def test_failed_doctest_cases(self):
        done = self.summarise(entry(DOCTEST_BAD, "FAIL"), status=1)
        self.expect(done, "9 passed, 3 failed, 0 skipped", 1)
        self.assertIn("failed: da3 / test (fail, 3 cases)", done.stdout)

    def test_failures_and_errors_of_check(self):
        self.expect(self.summarise(entry(CHECK_BAD, "FAIL"), status=1), "4 passed, 3 failed, 0 skipped", 1)

    def test_crash_without_a_word(self):
        self.expect(self.summarise(entry("", "FAIL", returncode=-11), status=1), "0 passed, 1 failed, 0 skipped", 1)

    def test_crash_after_the_last_case(self):
        done = self.summarise(entry(DOCTEST_GOOD, "FAIL", returncode=-6), status=1)
        self.expect(done, "12 passed, 1 failed, 1 skipped", 1)

    def test_timeout(self):
        done = self.summarise(entry("Running suite(s): da3infer\n", "TIMEOUT"), entry(CHECK_GOOD), status=1)
        self.expect(done, "7 passed, 1 failed, 0 skipped", 1)

    def test_cases_that_failed_count_even_when_the_exit_status_is_good(self):
        self.expect(self.summarise(entry("3 passed, 2 failed\n")), "3 passed, 2 failed, 0 skipped", 1)

    def test_unexpected_pass_is_a_failure(self):
        self.expect(self.summarise(entry("", "UNEXPECTEDPASS"), status=1), "0 passed, 1 failed, 0 skipped", 1)

    def test_numbers_within_a_sentence_are_not_counted(self):
        text = "of these 3 passed, 9 failed before\nfoo: 4 passed, 4 failed, 4 skipped\n"
        self.expect(self.summarise(entry(text)), "1 passed, 0 failed, 0 skipped", 0)

    def test_only_the_closing_line_counts(self):
        self.expect(self.summarise(entry("9 passed, 0 failed\nagain\n2 passed, 0 failed\n")),
                    "2 passed, 0 failed, 0 skipped", 0)

    def test_empty_log(self):
        done = self.summarise(text="")
        self.expect(done, "0 passed, 1 failed, 0 skipped", 1)
        self.assertIn("no test ran", done.stdout)

    def test_missing_log(self):
        done = self.run_command(SCRIPTS / "test-summary.py", self.dir / "nowhere.json")
        self.expect(done, "0 passed, 1 failed, 0 skipped", 1)
        self.assertIn("nowhere.json", done.stdout)

    def test_log_that_breaks_off(self):
        done = self.summarise(text=json.dumps(entry(CHECK_GOOD)) + '\n{"name": "da3", "resu')
        self.expect(done, "7 passed, 1 failed, 0 skipped", 1)

    def test_log_that_is_something_else(self):
        self.expect(self.summarise(text="[1, 2]\n"), "0 passed, 1 failed, 0 skipped", 1)

    def test_meson_failed_although_no_test_did(self):
        done = self.summarise(entry(CHECK_GOOD), status=2)
        self.expect(done, "7 passed, 1 failed, 0 skipped", 1)


if __name__ == "__main__":
    main()
