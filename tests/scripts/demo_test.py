#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""scripts/demo.sh and scripts/train.sh with a fake build: which program they start, how, and what they refuse."""

import shutil

from support import SCRIPTS, Case, main, write

BUILD = '''#!/bin/bash
echo "build $*" >>"$CALLS"
[ ! -e "$STATE/no-build" ] || exit 1
'''
PROGRAM = '''#!/bin/bash
echo "$(basename "$0") $*" >>"$CALLS"
echo "path $DA3_MODEL_PATH" >>"$CALLS"
'''


class Started(Case):
    def setUp(self):
        super().setUp()
        self.root = self.dir / "root"
        self.state = self.dir / "state"
        self.state.mkdir()
        shutil.copytree(SCRIPTS, self.root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        write(self.root / "scripts/build.sh", BUILD, True)
        for name in ("da3-demo", "da3-train"):
            write(self.root / "build/tools" / name, PROGRAM, True)
        self.shipped = write(self.root / "models/da3-demo/model.safetensors", "weights")
        self.video = write(self.dir / "walk.mp4", "video")
        self.calls = write(self.dir / "calls")
        self.env.update(CALLS=str(self.calls), STATE=str(self.state))
        self.env.pop("DA3_MODEL_PATH", None)

    def script(self, name, *arguments, **env):
        return self.run_command("bash", self.root / "scripts" / name, *arguments, env=env)

    def called(self, word):
        return [call for call in self.calls.read_text().splitlines() if call.startswith(word)]

    def fails(self, words, name, *arguments, status=1, built=0, **env):
        done = self.script(name, *arguments, **env)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        self.assertIn(words, done.stderr)
        self.assertEqual(len(self.called("build ")), built)
        self.assertEqual(self.called("da3-"), [])


class Demo(Started):
    def test_without_anything_a_clip_is_rendered_for_the_model_that_ships(self):
        done = self.script("demo.sh")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.called("da3-demo"), ["da3-demo --render da3-demo-out"])
        self.assertEqual(self.called("path"), [f"path {self.root}/models"])
        self.assertEqual(len(self.called("build ")), 1)
        self.assertIn("rendering a clip", done.stdout)

    def test_a_video_is_taken_as_it_is(self):
        self.assertEqual(self.script("demo.sh", self.video, "out", "--views", "4").returncode, 0)
        self.assertEqual(self.called("da3-demo"), [f"da3-demo --views 4 {self.video} out"])

    def test_without_the_checkpoint_it_says_what_to_do_before_it_builds(self):
        self.shipped.unlink()
        self.fails("model.safetensors is not in this checkout", "demo.sh")
        self.fails("--model", "demo.sh", self.video, "out")

    def test_another_model_needs_no_checkpoint(self):
        self.shipped.unlink()
        for option in (["--model", "synthetic:da3-small"], ["--model=synthetic:da3-small"]):
            self.assertEqual(self.script("demo.sh", *option, "--max-frames", "3").returncode, 0)
        self.assertEqual(len(self.called("da3-demo")), 2)

    def test_a_checkpoint_of_the_caller_is_enough(self):
        self.shipped.unlink()
        mine = self.dir / "mine"
        write(mine / "da3-demo/model.safetensors", "weights")
        for path in (f"{mine}", f"/nowhere:{mine}"):
            self.assertEqual(self.script("demo.sh", DA3_MODEL_PATH=path).returncode, 0)
            self.assertEqual(self.called("path")[-1], f"path {path}:{self.root}/models")
        self.assertEqual(self.called("da3-demo")[-1], "da3-demo --render da3-demo-out")

    def test_a_folder_of_the_caller_without_one_is_not(self):
        self.shipped.unlink()
        (self.dir / "empty").mkdir()
        self.fails("is not in this checkout", "demo.sh", DA3_MODEL_PATH=str(self.dir / "empty"))

    def test_an_input_that_is_not_there(self):
        self.fails("there is no nothing.mp4", "demo.sh", "nothing.mp4")

    def test_too_many_words(self):
        self.fails("more than INPUT and OUTDIR: three", "demo.sh", self.video, "two", "three")

    def test_an_option_without_its_value(self):
        self.fails("--model needs a value", "demo.sh", "--model")

    def test_a_build_that_fails(self):
        (self.state / "no-build").touch()
        self.fails("", "demo.sh", built=1)

    def test_a_build_without_the_program(self):
        (self.root / "build/tools/da3-demo").unlink()
        self.fails("was configured without the tools", "demo.sh", built=1)

    def test_help(self):
        done = self.script("demo.sh", "--help")
        self.assertIn("OUTDIR", done.stdout)
        self.assertEqual(self.called("build "), [])


class Train(Started):
    def test_options_go_where_they_belong(self):
        self.assertEqual(self.script("train.sh", "run", "--libtorch", "/lt", "--seed", "3").returncode, 0)
        self.assertEqual(self.called("build "), [f"build --builddir {self.root}/build --libtorch /lt"])
        self.assertEqual(self.called("da3-train"), ["da3-train run --seed 3"])

    def test_without_anything(self):
        self.assertEqual(self.script("train.sh").returncode, 0)
        self.assertEqual(self.called("da3-train"), ["da3-train da3-train-out"])

    def test_an_option_without_its_value(self):
        self.fails("--seed needs a value", "train.sh", "--seed", status=2)
        self.fails("--libtorch needs a PATH", "train.sh", "--libtorch", status=2)

    def test_a_build_that_fails(self):
        (self.state / "no-build").touch()
        self.fails("", "train.sh", built=1)

    def test_help(self):
        self.assertIn("FOLDER", self.script("train.sh", "--help").stdout)
        self.assertEqual(self.called("build "), [])


if __name__ == "__main__":
    main()
