#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The pipelines of README.md run as they stand, and write what they say."""

import glob
import os
import re
import shutil
import subprocess
import sys

from support import ROOT, SCRIPTS, Case, main

BLOCK = re.compile(r"```sh\n(.*?)```", re.S)
README = (ROOT / "README.md").read_text(encoding="utf-8")
PIPELINES = [block for block in BLOCK.findall(README) if block.startswith("gst-launch-1.0")]
BUILD = os.environ.get("DA3_BUILD_ROOT", "")


def can_infer():
    engine = os.environ.get("DA3_ENGINE_PATH") or next(iter(glob.glob(f"{BUILD}/lib/engine/libda3engine.so")), "")
    return bool(engine and shutil.which("gst-launch-1.0") and os.environ.get("GST_PLUGIN_PATH"))


class Readme(Case):
    def launch(self, number):
        self.assertEqual(len(PIPELINES), 7, "the README promises five pipelines, and has one of da3jpegdec and da3score")
        if not can_infer():
            self.skipTest("built without the engine or the elements")
        text = PIPELINES[number]
        if "model=" not in text and not (ROOT / "models/da3-demo/model.safetensors").exists():
            self.skipTest("models/da3-demo/model.safetensors is not in this checkout")
        done = subprocess.run(["bash", "-c", text], cwd=self.dir, env=os.environ, stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=240, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        if "is-live=true" not in text:  # what is live may be too slow on a busy machine, and say so
            self.assertNotIn("WARNING: from element", done.stdout + done.stderr)
        places = re.findall(r"location=(\S+)", text)
        self.assertTrue(places)
        for place in places:
            files = list(self.dir.glob(re.sub(r"%\d*d", "*", place)))
            self.assertTrue(files, f"{place} was not written")
            for file in files:
                self.assertGreater(file.stat().st_size, 0, file)
        return {file.name: file for file in self.dir.iterdir()}

    def test_video_of_colours(self):
        self.launch(0)

    def test_lossless_recording(self):
        self.launch(1)

    def test_trajectory(self):
        lines = self.launch(2)["poses.tum"].read_text().splitlines()
        self.assertEqual(len([line for line in lines if not line.startswith("#")]), 12)

    def test_images(self):
        images = [file for name, file in self.launch(3).items() if name.endswith(".png")]
        self.assertEqual(len(images), 4)
        for image in images:
            header = image.read_bytes()[:26]
            self.assertEqual(header[:4], b"\x89PNG")
            self.assertEqual(header[24:26], bytes([16, 0]), "16 bits a sample, grey")

    def test_everything_from_one_pass(self):
        lines = self.launch(4)["poses.jsonl"].read_text().splitlines()
        self.assertEqual(len([line for line in lines if '"type":"frame"' in line]), 8)

    def test_jpeg(self):
        lines = self.launch(5)["poses.jsonl"].read_text().splitlines()
        self.assertEqual(len([line for line in lines if '"type":"frame"' in line]), 4)

    def test_scores(self):
        lines = self.launch(6)["scores.jsonl"].read_text().splitlines()
        self.assertEqual(len([line for line in lines if '"type":"frame"' in line]), 8)

    def test_tables_of_properties_are_those_of_the_elements(self):
        if not os.environ.get("GST_PLUGIN_PATH") or not shutil.which("gst-inspect-1.0"):
            self.skipTest("built without the elements")
        done = subprocess.run([sys.executable, SCRIPTS / "property-tables.py", "--check"], env=os.environ, text=True,
                              capture_output=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_programs_that_the_text_names_exist(self):
        for name in sorted(set(re.findall(r"\bscripts/[a-z-]+\.(?:sh|py)\b", README))):
            self.assertTrue(os.access(ROOT / name, os.X_OK), name)

    def test_options_that_the_text_names_exist(self):
        options = (ROOT / "meson_options.txt").read_text(encoding="utf-8")
        known = set(re.findall(r"^option\('(\w+)'", options, re.M))
        table = README.split("| Option | Values | Meaning |")[1].split("\n\n")[0]
        named = set(re.findall(r"`(\w+)`", "\n".join(row.split("|")[1] for row in table.splitlines()[2:])))
        self.assertEqual(named, known)


if __name__ == "__main__":
    main()
