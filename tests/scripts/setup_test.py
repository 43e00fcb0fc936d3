#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""scripts/setup.sh and pip-torch-plan.py, with fake package tools: nothing is installed and nothing is downloaded."""

import ensurepip
import glob
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

from support import SCRIPTS, Case, fake_libtorch, main, write

# The only real programs that setup.sh may reach in these tests. sudo is not among them.
TOOLS = ("bash", "env", "sh", "sed", "grep", "cut", "cat", "tail", "head", "rm", "mktemp", "mkdir", "dirname", "realpath",
         "timeout", "touch", "cp", "sleep")

CALLS = 'echo "$(basename "$0") $*" >>"$CALLS"\n'
DPKG = '''for last; do :; done
if grep -qxF "$last" "$MISSING"; then exit 1; fi
printf installed
'''
# Installs by taking the names off the list of missing packages; LibTorch's headers appear with libtorch-dev.
APT = CALLS + '''case $* in *" update"*) rm -f "$STATE/stale"; exit 0 ;; esac
[ ! -e "$STATE/stale" ] && [ ! -e "$STATE/broken" ] || { echo "E: Unable to locate package" >&2; exit 100; }
for name; do sed -i "/^$name\\$/d" "$MISSING"; [ "$name" != libtorch-dev ] || cp -r "$STATE/torch" "$STATE/system"; done
'''
PYTHON = '''case "$*" in
"-m venv "*)
  echo "venv" >>"$CALLS"
  [ ! -e "$STATE/no-venv" ] || exit 1
  mkdir -p "$3/bin"
  cp "$SHIMS/venv-python" "$3/bin/python" ;;
*) exec "$REAL_PYTHON" "$@" ;;
esac
'''
VENV_PYTHON = '''case "$*" in
"-m pip install --dry-run "*)
  echo "dry-run" >>"$CALLS"
  [ -e "$STATE/report.json" ] || { echo "ERROR: No matching distribution found for torch" >&2; exit 1; }
  while [ "$1" != --report ]; do shift; done
  cp "$STATE/report.json" "$2" ;;
"-m pip install "*torch*)
  echo "pip-install $*" >>"$CALLS"
  [ ! -e "$STATE/no-room" ] || { echo "ERROR: No space left on device" >&2; exit 1; }
  site=$(dirname "$(dirname "$0")")/lib/python3.11/site-packages
  mkdir -p "$site"
  cp -r "$STATE/torch" "$site/torch" ;;
"-m pip install "*) echo "pip-upgrade" >>"$CALLS" ;;
*) exec "$REAL_PYTHON" "$@" ;;
esac
'''

CPU_REPORT = ["filelock", "typing-extensions>=4.10.0", 'opt-einsum>=3.3; extra == "opt-einsum"']
CUDA_REPORT = CPU_REPORT + ['nvidia-cublas==13.1.0.3; platform_system == "Linux"', "cuda-bindings<14,>=13.0.3",
                            "nvidia_cudnn_cu13==9.19.0.56", 'triton==3.7.0; platform_system == "Linux"']


def path_of_pip():
    """What PYTHONPATH needs so that `import pip` works: nothing, or the wheel that python3-venv installs from."""
    if importlib.util.find_spec("pip"):
        return ""
    wheels = glob.glob(os.path.join(os.path.dirname(ensurepip.__file__), "_bundled", "pip-*.whl"))
    wheels += glob.glob("/usr/share/python-wheels/pip-*.whl")
    return wheels[0] if wheels else ""


def report(requirements, name="torch"):
    return {"version": "1", "install": [{"metadata": {"name": name, "requires_dist": requirements}}]}


class Setup(Case):
    def setUp(self):
        super().setUp()
        self.state = self.dir / "state"
        self.root = self.dir / "root"
        shims = self.dir / "shims"
        shutil.copytree(SCRIPTS, self.root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        # The real search, but /usr is a folder of this test.
        os.rename(self.root / "scripts/find-libtorch.py", self.root / "scripts/real-find.py")
        write(self.root / "scripts/find-libtorch.py",
              f'#!/bin/sh\nexec "$REAL_PYTHON" "{self.root}/scripts/real-find.py" "$@" --system-prefix "$STATE/system"\n', True)
        for name in TOOLS:
            real = shutil.which(name)
            self.assertIsNotNone(real, name)
            shims.mkdir(exist_ok=True)
            (shims / name).symlink_to(real)
        for name, text in {"dpkg-query": DPKG, "apt-get": APT, "python3": PYTHON, "venv-python": VENV_PYTHON,
                           "nvidia-smi": "exit 9\n", "id": "echo ${FAKE_UID:-0}\n",
                           "basename": 'printf "%s\\n" "${1##*/}"\n'}.items():
            write(shims / name, "#!/bin/bash\n" + text, True)
        self.calls = write(self.dir / "calls")
        self.missing = write(self.dir / "missing")
        self.state.mkdir()
        fake_libtorch(self.state / "torch")
        self.env.update(PATH=str(shims), SHIMS=str(shims), CALLS=str(self.calls), MISSING=str(self.missing),
                        STATE=str(self.state), REAL_PYTHON=sys.executable, PYTHONPATH=path_of_pip())
        # A torch that this interpreter can import would be taken before everything else.
        self.env["PYTHONNOUSERSITE"] = "1"

    def setup(self, *arguments, **env):
        return self.run_command("bash", self.root / "scripts/setup.sh", *arguments, env=env)

    def called(self):
        return self.calls.read_text().splitlines()

    def succeed(self, *arguments, **env):
        done = self.setup(*arguments, **env)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done

    def fail(self, *words, arguments=(), **env):
        done = self.setup(*arguments, **env)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        for word in words:
            self.assertIn(word, done.stderr)
        return done

    def have_libtorch(self):
        fake_libtorch(self.state / "system", "1.13.0")

    def without_importable_torch(self):
        done = self.run_command(self.root / "scripts/find-libtorch.py", "--root", self.root)
        if done.returncode == 0:
            self.skipTest("this Python can import torch")
        if Path("/proc/driver/nvidia/version").exists():
            self.skipTest("this machine has an NVIDIA GPU")

    # Packages.

    def test_nothing_missing_means_one_line_and_no_call(self):
        self.have_libtorch()
        done = self.succeed()
        self.assertEqual(self.called(), [])
        self.assertEqual(len(done.stdout.splitlines()), 1)
        self.assertIn("setup: ready; LibTorch", done.stdout)

    def test_only_what_is_missing_is_installed(self):
        self.have_libtorch()
        self.missing.write_text("doctest-dev\nmeson\n")
        done = self.succeed()
        self.assertEqual(len(self.called()), 1)
        self.assertTrue(self.called()[0].endswith("install -y --no-install-recommends meson doctest-dev"), self.called())
        self.assertIn("installing meson doctest-dev", done.stdout)
        self.succeed()
        self.assertEqual(len(self.called()), 1, "the second run installed something")

    def test_sudo_is_used_when_not_root(self):
        self.have_libtorch()
        self.missing.write_text("meson\n")
        write(Path(self.env["SHIMS"]) / "sudo", '#!/bin/bash\necho "sudo $1" >>"$CALLS"\nshift\nexec "$@"\n', True)
        self.succeed(FAKE_UID="1000")
        self.assertEqual(self.called()[0], "sudo -n")

    def test_stale_package_lists_are_updated(self):
        self.have_libtorch()
        self.missing.write_text("meson\n")
        write(self.state / "stale")
        self.succeed()
        self.assertEqual([("update" in call, "install" in call) for call in self.called()],
                         [(False, True), (True, False), (False, True)])

    def test_apt_that_fails_is_shown(self):
        self.missing.write_text("meson\n")
        write(self.state / "broken")
        self.fail("could not install: meson", "E: Unable to locate package")

    def test_neither_root_nor_sudo(self):
        self.missing.write_text("meson\nninja-build\n")
        self.fail("neither root nor", "apt-get install meson ninja-build", FAKE_UID="1000")
        self.assertEqual(self.called(), [])

    def test_neither_root_nor_sudo_is_fine_when_nothing_is_missing(self):
        self.have_libtorch()
        self.succeed(FAKE_UID="1000")

    def test_system_without_dpkg(self):
        os.remove(Path(self.env["SHIMS"]) / "dpkg-query")
        self.fail("install by hand", "GStreamer >= 1.22")

    # Wrong words.

    def test_unknown_option(self):
        self.fail("unknown option: --libtroch", arguments=["--libtroch", "/x"])

    def test_option_without_its_path(self):
        self.fail("--libtorch needs a PATH", arguments=["--libtorch"])

    def test_wrong_path_is_not_replaced_by_an_installation(self):
        self.fail("no such folder", arguments=["--libtorch", str(self.dir / "nowhere")])
        self.fail("no such folder", LIBTORCH=str(self.dir / "nowhere"))
        self.assertEqual(self.called(), [])

    def test_unknown_choice(self):
        self.fail("it can be debian, pip or none", DA3_LIBTORCH="conda")

    # LibTorch.

    def test_named_path_is_taken(self):
        named = fake_libtorch(self.dir / "named")
        self.assertIn(f"from {named} (option", self.succeed("--libtorch", named).stdout)
        self.assertEqual(self.called(), [])

    def test_no_engine_wanted(self):
        self.assertIn("without LibTorch", self.succeed(DA3_LIBTORCH="none").stdout)
        self.assertEqual(self.called(), [])

    def test_cpu_torch_comes_alone_from_pip(self):
        self.without_importable_torch()
        self.write_json("state/report.json", report(CPU_REPORT))
        self.assertIn("(venv, CUDA: no)", self.succeed().stdout)
        self.assertEqual(self.called()[-1], "pip-install -m pip install --quiet --no-deps torch==2.13.0")
        before = self.called()
        self.succeed()
        self.assertEqual(self.called(), before, "the second run did something")

    def test_torch_with_cuda_packages_gives_way_to_debian(self):
        self.without_importable_torch()
        self.missing.write_text("libtorch-dev\nlibopenblas0-openmp\n")
        self.write_json("state/report.json", report(CUDA_REPORT))
        done = self.succeed()
        self.assertIn("it would bring 4 CUDA packages", done.stdout)
        self.assertIn("(system, CUDA: no)", done.stdout)
        self.assertFalse([call for call in self.called() if call.startswith("pip-install")])
        self.assertFalse((self.root / ".venv").exists())

    def test_cuda_packages_can_be_asked_for(self):
        self.without_importable_torch()
        self.write_json("state/report.json", report(CUDA_REPORT))
        self.assertIn("(venv", self.succeed(DA3_LIBTORCH="pip").stdout)
        self.assertEqual(self.called()[-1], "pip-install -m pip install --quiet torch==2.13.0")

    def test_debian_can_be_asked_for(self):
        self.missing.write_text("libtorch-dev\nlibopenblas0-openmp\n")
        self.write_json("state/report.json", report(CPU_REPORT))
        self.assertIn("(system", self.succeed(DA3_LIBTORCH="debian").stdout)
        self.assertEqual(len(self.called()), 1)

    def test_pip_out_of_reach_gives_way_to_debian(self):
        self.without_importable_torch()
        self.missing.write_text("libtorch-dev\nlibopenblas0-openmp\n")
        done = self.succeed()
        self.assertIn("pip offers no torch==2.13.0 here (ERROR: No matching distribution", done.stdout)
        self.assertIn("(system", done.stdout)
        self.assertFalse((self.root / ".venv").exists())

    def test_python_without_venv_gives_way_to_debian(self):
        self.without_importable_torch()
        self.missing.write_text("libtorch-dev\n")
        write(self.state / "no-venv")
        self.assertIn("(system", self.succeed().stdout)

    def test_pip_that_runs_out_of_disk_leaves_nothing_behind(self):
        self.without_importable_torch()
        self.missing.write_text("libtorch-dev\n")
        self.write_json("state/report.json", report(CPU_REPORT))
        write(self.state / "no-room")
        done = self.succeed()
        self.assertIn("No space left on device", done.stderr)
        self.assertIn("(system", done.stdout)
        self.assertFalse((self.root / ".venv").exists())

    def test_pip_asked_for_and_out_of_reach(self):
        self.without_importable_torch()
        self.fail("pip could not install torch==2.13.0", "DA3_LIBTORCH=debian", DA3_LIBTORCH="pip")

    def test_report_that_is_no_report(self):
        self.without_importable_torch()
        self.missing.write_text("libtorch-dev\n")
        write(self.state / "report.json", "<html>proxy says no</html>")
        self.assertIn("(system", self.succeed().stdout)

    def test_package_that_holds_no_libtorch(self):
        self.without_importable_torch()
        self.missing.write_text("libtorch-dev\n")
        shutil.rmtree(self.state / "torch/include")
        self.fail("LibTorch was installed but is not found")


class PipTorchPlan(Case):
    def plan(self, content, gpu="no", force="auto"):
        path = self.write_json("report.json", content) if not isinstance(content, str) else write(self.dir / "report.json", content)
        return self.run_command(sys.executable, SCRIPTS / "pip-torch-plan.py", "--gpu", gpu, "--force", force, path,
                                env={"PYTHONPATH": path_of_pip()})

    def test_cpu_build(self):
        self.assertEqual(self.plan(report(CPU_REPORT)).stdout, "alone\n")
        self.assertEqual(self.plan(report(CPU_REPORT), gpu="yes").stdout, "alone\n")

    def test_cuda_build_with_a_gpu(self):
        self.assertEqual(self.plan(report(CUDA_REPORT), gpu="yes").stdout, "with-dependencies\n")

    def test_cuda_build_without_a_gpu(self):
        self.assertIn("would bring 4 CUDA packages (nvidia-cublas, cuda-bindings, nvidia_cudnn_cu13, ...)",
                      self.plan(report(CUDA_REPORT)).stdout)

    def test_requirements_of_other_systems_and_extras_do_not_count(self):
        others = ['nvidia-cublas; platform_system == "Plan9"', 'triton; extra == "compiler"', "cudaless", "not a ! requirement"]
        self.assertEqual(self.plan(report(others)).stdout, "alone\n")

    def test_no_requirements_at_all(self):
        self.assertEqual(self.plan({"install": [{"metadata": {"name": "torch"}}]}).stdout, "alone\n")

    def test_useless_reports(self):
        for content in ("", "<html>", json.dumps([]), report([], name="torchvision"), {"install": []}):
            done = self.plan(content)
            self.assertEqual((done.returncode, done.stdout), (1, ""), content)
            self.assertNotIn("Traceback", done.stderr)

    def test_missing_report(self):
        done = self.run_command(sys.executable, SCRIPTS / "pip-torch-plan.py", "--gpu", "no", self.dir / "none.json",
                                env={"PYTHONPATH": path_of_pip()})
        self.assertEqual(done.returncode, 1)
        self.assertIn("none.json", done.stderr)


if __name__ == "__main__":
    main()
