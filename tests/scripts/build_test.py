#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""scripts/build.sh, scripts/test.sh and .ci/run with a fake meson and ninja; lib/engine/libtorch with the real meson."""

import json
import os
import shutil

from support import ROOT, SCRIPTS, Case, fake_libtorch, main, write

CALLS = 'echo "$(basename "$0") $*" >>"$CALLS"\n'
MESON = CALLS + '''if [ "$1" = test ]; then
  if read -r line; then echo "stdin is open: $line" >&2; exit 9; fi
  mkdir -p "$3/meson-logs"
  [ ! -e "$STATE/testlog.json" ] || cp "$STATE/testlog.json" "$3/meson-logs/testlog.json"
  exit "$(cat "$STATE/test-status" 2>/dev/null || echo 0)"
fi
[ ! -e "$STATE/no-configure" ] || { echo "meson.build:1:0: ERROR: no compiler"; exit 1; }
[ "$2" = --reconfigure ] || touch "$2/build.ninja"
'''
NINJA = CALLS + '[ ! -e "$STATE/no-build" ] || { echo "x.cc:1: error: expected }"; exit 1; }\n'

GOOD = {"name": "da3 / a", "result": "OK", "stdout": "100%: Checks: 7, Failures: 0, Errors: 0\n"}
BAD = {"name": "da3 / b", "result": "FAIL", "stdout": ""}


class Build(Case):
    def setUp(self):
        super().setUp()
        self.root = self.dir / "root"
        self.state = self.dir / "state"
        self.state.mkdir()
        self.build = self.root / "build"
        shutil.copytree(SCRIPTS, self.root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / ".ci", self.root / ".ci")
        write(self.root / "scripts/setup.sh", '#!/bin/bash\necho "setup $*" >>"$CALLS"\n[ ! -e "$STATE/no-setup" ]\n', True)
        shims = self.dir / "shims"
        write(shims / "meson", "#!/bin/bash\n" + MESON, True)
        write(shims / "ninja", "#!/bin/bash\n" + NINJA, True)
        self.calls = write(self.dir / "calls")
        self.libtorch = fake_libtorch(self.dir / "libtorch")
        self.env.update(PATH=f"{shims}:{os.environ['PATH']}", CALLS=str(self.calls), STATE=str(self.state),
                        LIBTORCH=str(self.libtorch), DA3_JOBS="3")
        self.log(GOOD)

    def log(self, *entries):
        write(self.state / "testlog.json", "".join(json.dumps(entry) + "\n" for entry in entries))

    def called(self, word):
        return [call for call in self.calls.read_text().splitlines() if call.startswith(word)]

    def script(self, name, *arguments, **env):
        return self.run_command("bash", self.root / name, *arguments, env=env)

    def last_line(self, done, line, status):
        self.assertEqual(done.stdout.splitlines()[-1], line, done.stdout + done.stderr)
        self.assertEqual(done.returncode, status)

    def test_everything_from_nothing(self):
        self.last_line(self.script("scripts/test.sh"), "7 passed, 0 failed, 0 skipped", 0)
        self.assertEqual(len(self.called("setup")), 1)
        self.assertEqual(self.called("meson setup"),
                         [f"meson setup {self.build} {self.root} -Dlibtorch= -Dwerror=true"])
        self.assertEqual(self.called("ninja"), [f"ninja -C {self.build} -j 3 --quiet"])

    def test_ci_entry_does_the_same(self):
        self.last_line(self.script(".ci/run", CI="true"), "7 passed, 0 failed, 0 skipped", 0)

    def test_configured_folder_is_not_configured_again(self):
        self.script("scripts/build.sh")
        self.script("scripts/test.sh")
        self.assertEqual(len(self.called("meson setup")), 1)

    def test_folder_configured_by_hand_is_left_alone(self):
        write(self.build / "build.ninja")
        self.script("scripts/build.sh")
        self.assertEqual(self.called("meson setup"), [])

    def test_another_libtorch_configures_again(self):
        self.script("scripts/build.sh")
        other = fake_libtorch(self.dir / "other", "2.9.0")
        self.script("scripts/build.sh", "--libtorch", other)
        self.assertEqual(self.called("meson setup --reconfigure"),
                         [f"meson setup --reconfigure {self.build} {self.root} -Dlibtorch={other}"])
        self.assertEqual(self.called("setup")[-1], f"setup --libtorch {other}")

    def test_another_folder(self):
        self.script("scripts/test.sh", "--builddir", "else where")
        self.script("scripts/test.sh", BUILDDIR="third")
        self.assertTrue((self.dir / "else where/build.ninja").exists())
        self.assertTrue((self.dir / "third/build.ninja").exists())
        self.assertFalse(self.build.exists())

    def test_arguments_reach_meson_test(self):
        self.script("scripts/test.sh", "da3infer", "--suite", "plugins", "--logbase", "mine")
        self.assertTrue(self.called("meson test")[0].endswith(
            "da3infer --suite plugins --logbase mine --logbase testlog"), self.called("meson test"))

    def test_options_for_meson_setup(self):
        self.script("scripts/build.sh", "--", "-Dbench=disabled", "-Ddocs=enabled")
        self.assertTrue(self.called("meson setup")[0].endswith("-Dlibtorch= -Dbench=disabled -Ddocs=enabled"))

    def test_failed_case(self):
        self.log(GOOD, BAD)
        write(self.state / "test-status", "1")
        self.last_line(self.script("scripts/test.sh"), "7 passed, 1 failed, 0 skipped", 1)

    def test_failed_setup(self):
        write(self.state / "no-setup")
        done = self.script("scripts/test.sh")
        self.last_line(done, "0 passed, 1 failed, 0 skipped", 1)
        self.assertEqual(self.called("meson"), [])

    def test_failed_configuration_shows_mesons_words(self):
        write(self.state / "no-configure")
        done = self.script("scripts/test.sh")
        self.last_line(done, "0 passed, 1 failed, 0 skipped", 1)
        self.assertIn("ERROR: no compiler", done.stderr)
        self.assertEqual(self.called("ninja"), [])

    def test_failed_build_tests_nothing(self):
        write(self.state / "no-build")
        done = self.script("scripts/test.sh")
        self.last_line(done, "0 passed, 1 failed, 0 skipped", 1)
        self.assertEqual(self.called("meson test"), [])
        self.assertIn("error: expected }", done.stdout)

    def test_log_of_an_earlier_run_is_not_counted(self):
        self.script("scripts/test.sh")
        (self.state / "testlog.json").unlink()
        self.last_line(self.script("scripts/test.sh"), "0 passed, 1 failed, 0 skipped", 1)

    def test_meson_that_fails_without_a_failed_test(self):
        write(self.state / "test-status", "2")
        self.last_line(self.script("scripts/test.sh"), "7 passed, 1 failed, 0 skipped", 1)

    def test_options_without_their_value(self):
        for option in ("--builddir", "--libtorch"):
            self.last_line(self.script("scripts/test.sh", option), "0 passed, 1 failed, 0 skipped", 1)
            self.assertEqual(self.script("scripts/build.sh", option).returncode, 1)
        self.assertEqual(self.called("setup"), [])

    def test_unknown_option_of_build(self):
        done = self.script("scripts/build.sh", "--bulddir", "x")
        self.assertEqual(done.returncode, 1)
        self.assertIn("unknown option: --bulddir", done.stderr)


class MesonFindsLibTorch(Case):
    """A project of three lines around lib/engine/libtorch."""

    def setUp(self):
        super().setUp()
        self.meson = shutil.which("meson")
        if not self.meson:
            self.skipTest("no meson on PATH")
        # LibTorch's own path may hold what meson's option parser or the linker cannot take; that is not tested here.
        self.project = self.dir / "project"
        shutil.copytree(ROOT / "lib/engine/libtorch", self.project / "lib/engine/libtorch")
        shutil.copytree(SCRIPTS, self.project / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "meson_options.txt", self.project)
        write(self.project / "meson.build",
              "project('t', 'c', 'cpp', meson_version : '>= 1.0.0', default_options : ['cpp_std=c++20'])\n"
              "cpp = meson.get_compiler('cpp')\nsubdir('lib/engine/libtorch')\n"
              "message('found', libtorch_dep.found(), libtorch_version)\n")

    def configure(self, *options, **env):
        return self.run_command(self.meson, "setup", self.project / "build", self.project, *options, env=env)

    def refused(self, words, *options, **env):
        done = self.configure(*options, **env)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        self.assertIn(words, done.stdout)
        self.assertNotIn("Traceback", done.stdout + done.stderr)

    def test_this_machine(self):
        if (ROOT / ".venv").exists():
            (self.project / ".venv").symlink_to(ROOT / ".venv")
        have = self.run_command(SCRIPTS / "find-libtorch.py")
        done = self.configure()
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn(f"Message: found {'true' if have.returncode == 0 else 'false'}", done.stdout)

    def test_absent_libtorch_builds_without_the_engine(self):
        done = self.configure(DA3_LIBTORCH="none")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("WARNING: no LibTorch found", done.stdout)
        self.assertIn("Message: found false", done.stdout)

    def test_engine_disabled_does_not_look(self):
        done = self.configure("-Dengine=disabled", f"-Dlibtorch={self.dir}/nowhere")
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_absent_libtorch_with_the_engine_enabled(self):
        self.refused("scripts/setup.sh", "-Dengine=enabled", DA3_LIBTORCH="none")

    def test_wrong_path(self):
        self.refused("libtorch option: no such folder:", f"-Dlibtorch={self.dir}/nowhere")

    def test_wrong_environment(self):
        self.refused("$LIBTORCH: no include/ATen/ATen.h in", LIBTORCH=str(self.project))

    def test_libtorch_that_does_not_link(self):
        named = fake_libtorch(self.dir / "named")
        self.refused("LibTorch 2.13.0 was found but a small program does not link", f"-Dlibtorch={named}")


if __name__ == "__main__":
    main()
