#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs da3-parity on all recorded results: $DA3_GOLDENS, or shared/goldens in or beside the checkout.

Exits with 77 (skipped) where there are none. The largest model needs about 7 GB of memory: with less, only the cases
of the small and base models run.
"""

import os
import subprocess
import sys
from pathlib import Path

SKIPPED = 77
NEEDED_GIB = 10


def find_goldens():
    given = os.environ.get("DA3_GOLDENS")
    if given:
        return Path(given)
    root = Path(os.environ.get("DA3_SOURCE_ROOT") or Path(__file__).resolve().parents[2])
    for folder in (root / "shared" / "goldens", root.parent / "shared" / "goldens"):
        if (folder / "manifest.json").exists():
            return folder
    return None


def available_gib():
    try:
        with open("/proc/meminfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) / 2**20
    except OSError:
        pass
    return NEEDED_GIB


def main():
    parity = sys.argv[1]
    goldens = find_goldens()
    if goldens is None:
        print("no recorded results: set DA3_GOLDENS to their folder")
        return SKIPPED
    # A folder that was named must work; da3-parity says what is wrong with it.
    selections = [[]]
    if available_gib() < NEEDED_GIB:
        print(f"less than {NEEDED_GIB} GiB of memory free: small and base models only")
        selections = [["--case", "small*"], ["--case", "base*"], ["--case", "rays*"]]
    failed = [s for s in selections if subprocess.run([parity, str(goldens), *s], check=False).returncode != 0]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
