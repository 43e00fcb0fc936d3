# SPDX-License-Identifier: MIT
"""What the script tests share: throw-away folders, fake LibTorch trees, fake programs, a closing line."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(os.environ.get("DA3_SOURCE_ROOT") or Path(__file__).resolve().parents[2])
SCRIPTS = ROOT / "scripts"

NEW_ABI = b"\0_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcE\0"
OLD_ABI = b"\0_ZN3c105ErrorC2ENS_14SourceLocationESs\0"


def write(path, text="", executable=False):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(text, bytes):
        path.write_bytes(text)
    else:
        path.write_text(text, encoding="utf-8")
    if executable:
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def fake_libtorch(prefix, version="2.13.0", *, lib="lib", cuda=False, abi=NEW_ABI, package=False, leave_out=()):
    """A folder that looks like LibTorch from outside; `package` makes it a Python package as well."""
    prefix = Path(prefix)
    files = {
        "include/ATen/ATen.h": "",
        "include/torch/csrc/api/include/torch/torch.h": "",
        f"{lib}/libtorch.so": "",
        f"{lib}/libtorch_cpu.so": "",
        f"{lib}/libc10.so": abi,
    }
    if cuda:
        files[f"{lib}/libtorch_cuda.so"] = ""
    if package:
        files["__init__.py"] = "raise SystemExit('torch must not be imported')\n"
        files["version.py"] = f"__version__ = '{version}'\n"
    else:
        numbers = version.split(".")
        files["include/torch/csrc/api/include/torch/version.h"] = "".join(
            f"#define TORCH_VERSION_{part} {number}\n" for part, number in zip(("MAJOR", "MINOR", "PATCH"), numbers))
    for name, text in files.items():
        if name not in leave_out:
            write(prefix / name, text)
    return prefix


class Case(unittest.TestCase):
    """A test with a folder of its own and an environment that knows nothing of the caller's LibTorch."""

    def setUp(self):
        # A blank and an equals sign: both are allowed in a path.
        self.dir = Path(tempfile.mkdtemp(prefix="da3 test=")).resolve()
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.env = {key: value for key, value in os.environ.items()
                    if key not in ("LIBTORCH", "DA3_LIBTORCH", "BUILDDIR", "PYTHONPATH", "DA3_JOBS", "MAKEFLAGS",
                                   "MESON_TESTTHREADS", "VIRTUAL_ENV")}
        # Fake compiled files must not be left beside the fake modules.
        self.env["PYTHONDONTWRITEBYTECODE"] = "1"

    def run_command(self, *command, **more):
        env = {**self.env, **more.pop("env", {})}
        return subprocess.run([str(word) for word in command], env=env, stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=120, cwd=more.pop("cwd", self.dir), check=False, **more)

    def write_json(self, name, value):
        return write(self.dir / name, json.dumps(value))


class Result(unittest.TextTestResult):
    """Counts successes by themselves: a class that is skipped as a whole is one skip and runs no test."""

    passed = 0

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1


def main():
    """Runs the tests of the calling module and prints `N passed, N failed, N skipped` last."""
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
    result = unittest.TextTestRunner(verbosity=2, resultclass=Result).run(suite)
    sys.stderr.flush()
    failed = len(result.failures) + len(result.errors)
    print(f"{result.passed} passed, {failed} failed, {len(result.skipped)} skipped")
    sys.exit(1 if failed else 0)
