#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Finds the LibTorch to build against and describes it as key=value lines.

Order: --libtorch PATH; $LIBTORCH; a torch that python3 can import; .venv in the project root; the system packages.
Nothing is imported, so the answer takes milliseconds.

Keys: source (option, environment, python3, venv, system), prefix, version, cuda (yes, no), cuda_include (may be empty),
cxx11abi (1, 0 or empty when unknown), libdir, and one include= line per folder, in search order.

$DA3_LIBTORCH narrows the automatic search: "debian" looks at the system packages only, "pip" at Python's torch only,
"none" at nothing. A named path always wins over it.

Exit status: 0 found; 1 nothing found; 2 the named path (or a setting) is wrong. Reasons go to stderr.
"""

import argparse
import glob
import importlib.util
import os
import re
import shutil
import sys
import sysconfig

OLDEST = (1, 13)
API_INCLUDE = os.path.join("torch", "csrc", "api", "include")


class Unusable(Exception):
    """A candidate that is not a LibTorch we can build against; the text says why."""


def multiarch_dirs():
    names = ["lib"]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    if multiarch:
        names.append(os.path.join("lib", multiarch))
    return names + ["lib64"]


def find_libdir(prefix):
    patterns = [os.path.join(prefix, name) for name in multiarch_dirs()]
    patterns += sorted(glob.glob(os.path.join(prefix, "lib", "*-linux-gnu*")))
    for libdir in patterns:
        if os.path.exists(os.path.join(libdir, "libtorch_cpu.so")):
            if not os.path.exists(os.path.join(libdir, "libc10.so")):
                raise Unusable(f"{libdir} holds libtorch_cpu.so but not libc10.so")
            return libdir
    raise Unusable(f"no libtorch_cpu.so in {prefix}/lib (a LibTorch folder has include/ and lib/)")


def read_text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return ""


def find_version(prefix, include):
    match = re.search(r"^__version__\s*=\s*['\"]([^'\"]+)", read_text(os.path.join(prefix, "version.py")), re.M)
    if match:
        return match.group(1)
    text = read_text(os.path.join(prefix, "build-version")).strip()
    if text:
        return text
    for header in (os.path.join(API_INCLUDE, "torch", "version.h"), os.path.join("torch", "headeronly", "version.h")):
        text = read_text(os.path.join(include, header))
        parts = [re.search(rf"define\s+TORCH_VERSION_{part}\s+(\d+)", text) for part in ("MAJOR", "MINOR", "PATCH")]
        if all(parts):
            return ".".join(part.group(1) for part in parts)
    raise Unusable(f"no LibTorch version in {prefix} (version.py, build-version, torch/version.h)")


def find_abi(libdir):
    """Which std::string the library was built with, read from the name of one constructor in libc10."""
    try:
        with open(os.path.join(libdir, "libc10.so"), "rb") as handle:
            data = handle.read()
    except OSError as error:
        raise Unusable(f"cannot read {error.filename}: {error.strerror}") from error
    if b"c105ErrorC2ENS_14SourceLocationENSt7__cxx11" in data:
        return "1"
    if b"c105ErrorC2ENS_14SourceLocationESs" in data:
        return "0"
    return ""


def find_cuda_include(prefix):
    # pip puts the CUDA headers beside torch: nvidia/cuda_runtime/include, nvidia/cu13/include, ... Since CUDA 13 a part of
    # them (crt/) is a package of its own, without which no header compiles: a whole set comes before one without.
    beside = sorted(glob.glob(os.path.join(os.path.dirname(prefix), "nvidia", "*", "include")))
    homes = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")]
    compiler = shutil.which("nvcc")
    if compiler:
        homes.append(os.path.dirname(os.path.dirname(os.path.realpath(compiler))))
    homes += ["/usr/local/cuda", "/usr"]
    folders = beside + [os.path.join(home, "include") for home in homes if home]
    found = [folder for folder in folders if os.path.exists(os.path.join(folder, "cuda_runtime_api.h"))]
    whole = [folder for folder in found if os.path.exists(os.path.join(folder, "crt", "host_config.h"))]
    return (whole + found + [""])[0]


def inspect(prefix):
    """Describes the LibTorch below `prefix`; raises Unusable with the reason when there is none."""
    prefix = os.path.abspath(prefix)
    include = os.path.join(prefix, "include")
    if not os.path.exists(os.path.join(include, "ATen", "ATen.h")):
        raise Unusable(f"no include/ATen/ATen.h in {prefix} (a LibTorch folder has include/ and lib/)")
    libdir = find_libdir(prefix)
    version = find_version(prefix, include)
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if len(numbers) < 2 or numbers < OLDEST:
        raise Unusable(f"LibTorch {version} in {prefix} is too old; {OLDEST[0]}.{OLDEST[1]} or newer is needed")
    abi = find_abi(libdir)
    if abi == "0":
        raise Unusable(f"LibTorch {version} in {prefix} was built with the C++ ABI from before C++11, which does not "
                       "link with this project; take a cxx11-abi build")
    cuda = os.path.exists(os.path.join(libdir, "libtorch_cuda.so"))
    includes = [include, os.path.join(include, API_INCLUDE)]
    return {
        "prefix": prefix,
        "version": version,
        "cuda": "yes" if cuda else "no",
        "cuda_include": find_cuda_include(prefix) if cuda else "",
        "cxx11abi": abi,
        "libdir": libdir,
        "include": includes,
    }


def expand(path):
    """The folders a person may mean by PATH: LibTorch itself, a site-packages, or a virtual environment."""
    return [path, os.path.join(path, "torch")] + sorted(glob.glob(os.path.join(path, "lib", "python*", "*-packages", "torch")))


def inspect_named(path, what):
    if not os.path.isdir(path):
        raise Unusable(f"{what}: no such folder: {path}")
    for candidate in expand(path):
        if os.path.exists(os.path.join(candidate, "include", "ATen", "ATen.h")):
            return inspect(candidate)
    raise Unusable(f"{what}: no include/ATen/ATen.h in {path} (a LibTorch folder has include/ and lib/)")


def importable_torch():
    try:
        spec = importlib.util.find_spec("torch")
    except (ImportError, ValueError):
        return None
    # A bare folder called torch is a namespace package without an origin.
    return os.path.dirname(spec.origin) if spec and spec.origin else None


def automatic(root, system_prefixes, narrow):
    if narrow in ("", "pip"):
        torch = importable_torch()
        if torch:
            yield "python3", torch
        for torch in sorted(glob.glob(os.path.join(root, ".venv", "lib", "python*", "site-packages", "torch"))):
            yield "venv", torch
    if narrow in ("", "debian"):
        for prefix in system_prefixes:
            if os.path.exists(os.path.join(prefix, "include", "ATen", "ATen.h")):
                yield "system", prefix


def find(arguments):
    for source, path, base in (("option", arguments.libtorch, arguments.root),
                               ("environment", os.environ.get("LIBTORCH", ""), os.getcwd())):
        if path:
            what = "libtorch option" if source == "option" else "$LIBTORCH"
            found = inspect_named(os.path.join(base, os.path.expanduser(path)), what)
            return {"source": source, **found}
    narrow = os.environ.get("DA3_LIBTORCH", "")
    if narrow not in ("", "debian", "pip", "none"):
        raise Unusable(f"$DA3_LIBTORCH is '{narrow}'; it can be debian, pip or none")
    for source, path in automatic(arguments.root, arguments.system_prefix or ["/usr/local", "/usr"], narrow):
        try:
            return {"source": source, **inspect(path)}
        except Unusable as reason:
            print(f"skipped ({source}): {reason}", file=sys.stderr)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--libtorch", default="", help="the LibTorch to use; relative to the project root")
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                        help="project root, where .venv is looked for")
    parser.add_argument("--system-prefix", action="append", help="instead of /usr/local and /usr; can be repeated")
    try:
        found = find(parser.parse_args())
    except Unusable as reason:
        print(f"find-libtorch: {reason}", file=sys.stderr)
        return 2
    if not found:
        print("find-libtorch: no LibTorch found; run scripts/setup.sh, or name one with -Dlibtorch=PATH or $LIBTORCH",
              file=sys.stderr)
        return 1
    for key, value in found.items():
        for item in value if isinstance(value, list) else [value]:
            print(f"{key}={item}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
