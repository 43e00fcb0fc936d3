#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""da3-train: what it says to wrong arguments."""

import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = sys.argv[1]
passed = failed = 0


def check(name, arguments, status, *texts):
    global passed, failed
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False)
    said = done.stdout + done.stderr
    good = done.returncode == status and all(text in said for text in texts)
    passed, failed = passed + good, failed + (not good)
    print(f"{'ok' if good else 'FAILED'}: {name}" + ("" if good else f": status {done.returncode}: {said}"))


with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "file"
    file.write_text("x", encoding="utf-8")
    check("help", ["--help"], 0, "usage: da3-train", "--phases")
    check("defaults", ["--help"], 0, "1500x48@84,3000x32@126,4800x24@196", "196x154")
    check("nothing", [], 2, "usage")
    check("unknown option", ["--bogus", "1", folder], 2, "--bogus")
    check("no value", [folder, "--phases"], 2, "--phases")
    check("bad phases", [folder, "--phases", "many"], 2, "many")
    check("bad number", [folder, "--threads", "two"], 2, "--threads", "two")
    check("bad rate", [folder, "--rate", "0"], 2, "--rate")
    check("bad size", ["--score", folder, "--size", "100x100"], 2, "multiples of 14")
    check("two folders", [folder, folder], 2, "too many")
    check("folder and score", [folder, "--score", folder], 2, "FOLDER")
    check("no checkpoint", ["--score", folder], 1, "da3-train:", folder)
    check("folder is a file", [str(file)], 1, "da3-train:")
print(f"{passed} passed, {failed} failed, 0 skipped")
sys.exit(1 if failed else 0)
