#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Counts test cases, not executables, in meson's testlog.json.

Understands, in a test's output: doctest's `[doctest] test cases:` line; Check's `100%: Checks:` lines; and a closing
line `N passed, N failed[, N skipped]` of our own programs. A test without any of them is one case, judged by meson. A
test that meson calls failed (crash, timeout, exit status) counts as at least one failed case, whatever it printed.
Cases of doctest that the arguments of a test leave out are not skipped: another test of the same program runs them.

The last line printed is `N passed, N failed, N skipped`; the exit status is 0 when none failed and at least one ran.
"""

import argparse
import json
import re
import sys
from typing import NamedTuple

GOOD = {"OK", "EXPECTEDFAIL"}
SKIPPED = {"SKIP", "IGNORED"}
ANSI = re.compile(r"\x1b\[[0-9;]*m")
DOCTEST = re.compile(r"\[doctest\] test cases:\s*\d+\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed\s*\|(?:\s*(\d+) skipped)?")
CHECK = re.compile(r"^\s*\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)", re.M)
OWN = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?\s*$", re.M)


CHOOSING = re.compile(r"--?(?:dt-)?(?:tc|tce|ts|tse|test-case|test-suite)(?:-exclude)?=")


class Counts(NamedTuple):
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other):
        return Counts(*(mine + theirs for mine, theirs in zip(self, other)))


def counted(text):
    """What the test itself says, or None when it says nothing."""
    lines = DOCTEST.findall(text)
    if lines:
        return Counts(*(int(number or 0) for number in lines[-1]))
    lines = CHECK.findall(text)
    if lines:
        # A program may run several suites, and each prints its own line.
        total = Counts()
        for checks, failures, errors in lines:
            bad = int(failures) + int(errors)
            total += Counts(int(checks) - bad, bad, 0)
        return total
    lines = OWN.findall(text)
    return Counts(*(int(number or 0) for number in lines[-1])) if lines else None


def judge(entry):
    result = entry.get("result", "")
    if result in SKIPPED:
        return Counts(0, 0, 1)
    text = ANSI.sub("", (entry.get("stdout") or "") + "\n" + (entry.get("stderr") or ""))
    counts = counted(text)
    if counts and any(CHOOSING.match(argument) for argument in entry.get("command") or []):
        counts = counts._replace(skipped=0)
    if result in GOOD:
        return counts if counts is not None else Counts(1, 0, 0)
    counts = counts or Counts()
    return counts._replace(failed=max(counts.failed, 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", help="testlog.json")
    parser.add_argument("--meson-status", type=int, default=0, help="exit status of meson test")
    arguments = parser.parse_args()

    total, bad = Counts(), []
    try:
        with open(arguments.log, encoding="utf-8", errors="replace") as handle:
            for number, line in enumerate(handle, 1):
                if not line.strip():
                    continue
                entry = json.loads(line)
                counts = judge(entry)
                total += counts
                if counts.failed:
                    bad.append(f"failed: {entry.get('name', '?')} ({entry.get('result', '?').lower()}, "
                               f"{counts.failed} case{'s' if counts.failed > 1 else ''})")
    except (OSError, ValueError, AttributeError) as error:
        # A log that breaks off says that meson was killed.
        where = f", line {number}" if isinstance(error, ValueError) else ""
        bad.append(f"cannot read {arguments.log}{where}: {error}")
        total += Counts(0, 1, 0)
    if arguments.meson_status and not total.failed:
        bad.append(f"meson test ended with status {arguments.meson_status} although no test failed")
        total += Counts(0, 1, 0)
    if not sum(total):
        bad.append("no test ran")
        total += Counts(0, 1, 0)
    for line in bad:
        print(line)
    print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
