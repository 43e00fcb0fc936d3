#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reads the report of `pip install --dry-run --no-deps --report FILE torch==...` and says how to install that torch.

Prints one of
  alone              a CPU build: its C++ libraries need no other package (pip install --no-deps)
  with-dependencies  a CUDA build that is wanted: the CUDA libraries come as packages of their own
  REASON             a sentence: this torch does not fit the machine
"""

import argparse
import json
import re
import sys

# pip brings this library along in every version that can write a report.
from pip._vendor.packaging.requirements import InvalidRequirement, Requirement

CUDA_PACKAGE = re.compile(r"(nvidia|cuda)(-|$)|triton$|pytorch-triton")


def cuda_requirements(requirements):
    names = []
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if CUDA_PACKAGE.match(requirement.name.lower().replace("_", "-")):
            names.append(requirement.name)
    return names


def plan(report, gpu, force):
    torch = next(item for item in report["install"] if item["metadata"]["name"].lower() == "torch")
    cuda = cuda_requirements(torch["metadata"].get("requires_dist", []))
    if not cuda:
        return "alone"
    if gpu or force == "pip":
        return "with-dependencies"
    shown = ", ".join(cuda[:3]) + (", ..." if len(cuda) > 3 else "")
    return f"it would bring {len(cuda)} CUDA packages ({shown}) to a machine without an NVIDIA GPU"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report")
    parser.add_argument("--gpu", choices=["yes", "no"], required=True)
    parser.add_argument("--force", default="auto")
    arguments = parser.parse_args()
    try:
        with open(arguments.report, encoding="utf-8") as handle:
            report = json.load(handle)
        print(plan(report, arguments.gpu == "yes", arguments.force))
    except (OSError, ValueError, KeyError, StopIteration, TypeError) as error:
        print(f"pip-torch-plan: cannot use the report {arguments.report}: {error!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
