#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes the property tables of README.md from what gst-inspect-1.0 says about the elements.

  meson devenv -C build scripts/property-tables.py --write    puts them between the README's markers
  meson devenv -C build scripts/property-tables.py --check    fails when they differ from what is there

A table stands between `<!-- properties: ELEMENT -->` and `<!-- end -->`. Properties of GStreamer's own base classes are
left out. $GST_INSPECT names another gst-inspect-1.0.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

INHERITED = {
    "name", "parent", "qos", "async", "sync", "blocksize", "enable-last-sample", "last-sample", "max-bitrate",
    "do-timestamp", "num-buffers", "typefind", "max-lateness", "processing-deadline", "render-delay", "throttle-time",
    "ts-offset", "automatic-request-sync-point-flags", "automatic-request-sync-points", "discard-corrupted-frames",
    "max-errors", "min-force-key-unit-interval",
}
MARKED = re.compile(r"(<!-- properties: ([a-z0-9]+) -->\n).*?(<!-- end -->)", re.S)
HEAD = "| Property | Values | Changeable | Meaning |\n|---|---|---|---|\n"


class CannotInspect(Exception):
    pass


def inspect(element):
    command = [os.environ.get("GST_INSPECT", "gst-inspect-1.0"), "--no-colors", element]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False)
    except OSError as error:
        raise CannotInspect(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        raise CannotInspect((done.stderr or done.stdout).strip() or f"{command[0]} {element} failed")
    return done.stdout


def changeable(flags):
    if "writable" not in flags:
        return "read only"
    if "PLAYING" in flags:
        return "any time"
    if "READY or PAUSED" in flags:
        return "up to PAUSED"
    if "NULL or READY" in flags:
        return "up to READY"
    return "not stated"


def values(kind, choices):
    text = " ".join(kind.split())
    default = re.search(r'Default: (?:\d+, )?"?([^"]*?)"?$', text)
    default = default.group(1).strip() if default else ""
    if text.startswith(("Enum", "Flags")):
        return ", ".join(f"**{choice}**" if choice == default else choice for choice in choices)
    if text.startswith("Boolean"):
        return "**true**, false" if default == "true" else "true, **false**"
    if text.startswith("String"):
        return "text" if default in ("null", "") else f"text, **{default}**"
    bounds = re.search(r"Range: (\S+) - (\S+)", text)
    if bounds:
        low, high = bounds.groups()
        return f"{shorter(low)} to {shorter(high)}, **{shorter(default)}**"
    return "structure" if "GstStructure" in text else text


def shorter(number):
    if re.fullmatch(r"-?\d+", number):
        named = {"4294967295": "2^32-1", "2147483647": "2^31-1", "18446744073709551615": "2^64-1",
                 "9223372036854775807": "2^63-1"}
        return named.get(number, number)
    try:
        return f"{float(number):.4g}"
    except ValueError:
        return number


def properties(text):
    """(name, meaning, flags, kind, choices) of each property in gst-inspect's text."""
    if "Element Properties:" not in text:
        return []
    body = text.split("Element Properties:", 1)[1]
    found = []
    for line in body.splitlines():
        start = re.match(r"^  ([a-z][a-z0-9-]*)\s*: (.*)$", line)
        choice = re.match(r"^\s+\([^)]*\): (\S+)\s+- ", line)
        if start:
            found.append([start.group(1), start.group(2).strip(), "", "", []])
        elif found and choice:
            found[-1][4].append(choice.group(1))
        elif found and line.strip().startswith("flags:"):
            found[-1][2] = line.split("flags:", 1)[1].strip()
        elif found and line.strip() and not found[-1][3]:
            found[-1][3] = line.strip()
        elif line and not line.startswith(" "):
            break
    return found


def table(element):
    rows = [(name, values(kind, choices), changeable(flags), meaning)
            for name, meaning, flags, kind, choices in properties(inspect(element)) if name not in INHERITED]
    if not rows:
        return "No properties of its own.\n"
    return HEAD + "".join(f"| `{name}` | {value} | {when} | {meaning.replace('|', chr(92) + '|')} |\n"
                          for name, value, when, meaning in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("file", nargs="?", type=Path, default=Path(__file__).resolve().parents[1] / "README.md")
    arguments = parser.parse_args()
    try:
        text = arguments.file.read_text(encoding="utf-8")
        if not MARKED.search(text):
            print(f"property-tables: no markers in {arguments.file}", file=sys.stderr)
            return 1
        made = MARKED.sub(lambda match: match.group(1) + table(match.group(2)) + match.group(3), text)
        if arguments.write:
            arguments.file.write_text(made, encoding="utf-8")
    except (OSError, CannotInspect) as error:
        print(f"property-tables: {error}", file=sys.stderr)
        return 1
    if arguments.check and made != text:
        for old, new in zip(MARKED.finditer(text), MARKED.finditer(made)):
            for line in sorted(set(new.group(0).splitlines()) ^ set(old.group(0).splitlines())):
                print(f"{new.group(2)}: {line}")
        print("property-tables: the tables differ from the elements; run scripts/property-tables.py --write",
              file=sys.stderr)
        return 1
    if not arguments.write and not arguments.check:
        print("\n".join(match.group(0) for match in MARKED.finditer(made)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
