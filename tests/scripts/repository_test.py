#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What every tracked file must hold to: no path of one person's machine, no registry's host, working links, a licence."""

import os
import re
import shutil
import subprocess
import unittest

from support import ROOT, Case, main, write

# Put together here, so that this file does not name what it forbids.
START = r"(?:(?<![\w.})-])|(?<=-[IL]))"
MACHINE_PATHS = [rf"{START}/{name}/" for name in ("work", "root", "Users", r"home/(?!user/)\w+")]
HOSTS = [name.replace("_", ".").replace(" ", "") for name in (
    "py pi_org", "python hosted_org", "download_py torch_org", "deb_debian_org", "archive_ubuntu_com", "npm js_org",
    "crates_io", "proxy_golang_org", "ghcr_io", "docker_io", "quay_io", "arti factory", "repo_maven")]
FORBIDDEN = re.compile("|".join(MACHINE_PATHS + [re.escape(host) for host in HOSTS]))
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
LICENSED = (".cc", ".h", ".c", ".sh", ".py")


def forbidden_lines(text):
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if FORBIDDEN.search(line)]


def broken_links(path, text):
    found = []
    for target in LINK.findall(text):
        target = target.split("#")[0]
        if target and "://" not in target and not (path.parent / target).exists():
            found.append(target)
    return found


def has_licence(text):
    return any("SPDX-License-Identifier: MIT" in line for line in text.splitlines()[:4])


class Rules(Case):
    """The rules themselves, on invented files."""

    def test_machine_paths_are_noticed(self):
        for line in ("cd /" + "work/main", 'open("/' + 'root/x")', "-I/" + "home/anna/torch", "see (/" + "root/.cache)"):
            self.assertTrue(forbidden_lines("first\n" + line), line)

    def test_other_paths_are_not(self):
        for line in ("frame" + "work/main", "${dir}/" + "work/x", "/usr/lib", "lib/root/x", "a/" + "root/b", "/home/user/x"):
            self.assertFalse(forbidden_lines(line), line)

    def test_registry_hosts_are_noticed(self):
        for host in HOSTS:
            self.assertTrue(forbidden_lines(f"pip --index-url https://{host}/simple"), host)

    def test_broken_links_are_noticed(self):
        page = write(self.dir / "page.md")
        write(self.dir / "there.md")
        text = "[a](there.md#part) ![b](gone.png) [c](https://example.org/x) [d](#here) [e](sub/gone.md)"
        self.assertEqual(broken_links(page, text), ["gone.png", "sub/gone.md"])

    def test_missing_licence_is_noticed(self):
        self.assertFalse(has_licence("// a file\n"))
        self.assertFalse(has_licence("\n" * 20 + "// SPDX-License-Identifier: MIT\n"))
        self.assertTrue(has_licence("#!/bin/sh\n# SPDX-License-Identifier: MIT\n"))


class Repository(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not shutil.which("git") or not (ROOT / ".git").exists():
            raise unittest.SkipTest("not a git checkout")
        done = subprocess.run(["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "ls-files", "-z"], check=True,
                              capture_output=True)
        cls.files = {}
        for name in os.fsdecode(done.stdout).split("\0"):
            path = ROOT / name
            if not name or not path.is_file():
                continue
            data = path.read_bytes()
            if b"\0" not in data[:8192]:
                cls.files[path] = data.decode("utf-8", errors="replace")

    def offenders(self, check, suffixes=("",)):
        return [f"{path.relative_to(ROOT)}: {found}" for path, text in self.files.items()
                if str(path).endswith(tuple(suffixes)) and (found := check(path, text))]

    def test_no_machine_paths_and_no_registry_hosts(self):
        self.assertEqual(self.offenders(lambda _, text: forbidden_lines(text)), [])

    def test_links_lead_somewhere(self):
        self.assertEqual(self.offenders(broken_links, [".md"]), [])

    def test_sources_name_their_licence(self):
        self.assertEqual(self.offenders(lambda _, text: not has_licence(text), LICENSED), [])

    def test_scripts_can_be_run(self):
        scripts = [path for path in self.files if path.suffix == ".sh" or path.parent.name == ".ci"]
        self.assertTrue(scripts)
        for path in scripts:
            self.assertTrue(os.access(path, os.X_OK), path)
            done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), path)


if __name__ == "__main__":
    main()
