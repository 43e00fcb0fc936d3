#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The checkpoint that ships: what is in its folder, and that the elements and da3-demo find it and see with it."""

import array
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(os.environ.get("DA3_SOURCE_ROOT") or Path(__file__).resolve().parents[2])
BUILD = Path(os.environ.get("DA3_BUILD_ROOT", ""))
MODEL = ROOT / "models" / "da3-demo"
WEIGHTS = MODEL / "model.safetensors"
MOST_BYTES = 12_000_000
BOUNDS = dict(re.findall(r"^constexpr double (k\w+) = ([0-9.]+);", (ROOT / "tests/accuracy/bounds.h").read_text(), re.M))

# What the elements make of a walk through a room that was never trained on: small steps, so that views overlap.
WALK = ("da3testsrc scene=room path=walk seed=11 speed=2 num-buffers=16 ! "
        "video/x-raw,width=320,height=240,framerate=8/1")


def bound(name):
    return float(BOUNDS[name])


def row_of_card(row):
    """A line of the model card's tables, from a line of scores.json."""
    share = lambda value: f"{100 * value:.1f} %"
    degrees = lambda value: "-" if value is None else f"{value:.1f}"
    auc = "-" if row["auc30"] is None else f"{row['auc30']:.2f}"
    return (f"| {row['views']} | {row['abs_rel']:.3f} | {row['delta1']:.3f} | {degrees(row['rotation_error_deg'])} | "
            f"{degrees(row['identity_rotation_error_deg'])} | {degrees(row['translation_direction_error_deg'])} | {auc} | "
            f"{share(row['fov_error'])} |")


class Shipped(unittest.TestCase):
    def setUp(self):
        if not WEIGHTS.exists():
            self.skipTest("models/da3-demo/model.safetensors is not in this checkout")
        self.dir = Path(tempfile.mkdtemp(prefix="da3-shipped-"))
        self.addCleanup(shutil.rmtree, self.dir)


class Files(Shipped):
    """What lies in the folder."""

    def read_header(self):
        data = WEIGHTS.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        return json.loads(data[8:8 + length]), data[8 + length:]

    def test_the_file_is_small(self):
        self.assertLessEqual(WEIGHTS.stat().st_size, MOST_BYTES)
        # And no pointer to it.
        self.assertGreater(WEIGHTS.stat().st_size, MOST_BYTES // 10)

    def test_tensors_are_whole_finite_and_published_names_only(self):
        header, data = self.read_header()
        header.pop("__metadata__", None)
        self.assertEqual(max(entry["data_offsets"][1] for entry in header.values()), len(data))
        for name, entry in header.items():
            self.assertTrue(name.startswith("model."), name)
            self.assertEqual(entry["dtype"], "F16", name)
        # Exponents of infinities and NaN.
        self.assertFalse(any(value & 0x7C00 == 0x7C00 for value in array.array("H", data)))

    def test_the_description_is_complete(self):
        description = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
        self.assertEqual(description["model_name"], "da3-demo")
        self.assertEqual(description["process_res"] % 14, 0)
        self.assertGreaterEqual(description["process_res"], 196)
        tree = description["config"]
        # Numbers, and not the name of a set of numbers that a program knows.
        self.assertNotIn("name", tree["net"])
        for key in ("embed_dim", "depth", "num_heads", "ffn_hidden", "pos_grid", "alt_start", "qknorm_start",
                    "rope_start"):
            self.assertIsInstance(tree["net"][key], int, key)
        for node, key in (("net", "out_layers"), ("head", "out_channels")):
            self.assertEqual([type(number) for number in tree[node][key]], [int] * 4, key)
        for node, key in (("head", "dim_in"), ("head", "features"), ("cam_enc", "dim_out"), ("cam_dec", "dim_in")):
            self.assertIsInstance(tree[node][key], int, (node, key))

    def test_the_card_is_there_and_finished(self):
        card = (MODEL / "README.md").read_text(encoding="utf-8")
        self.assertNotRegex(card, r"@[A-Z]+@|draft|TODO")
        for word in ("scripts/train.sh", "MIT", "AbsRel", "photograph"):
            self.assertIn(word, card)

    def test_the_card_says_what_was_measured(self):
        card = (MODEL / "README.md").read_text(encoding="utf-8")
        rows = json.loads((MODEL / "scores.json").read_text(encoding="utf-8"))
        self.assertEqual([(row["scenes"], row["views"]) for row in rows],
                         [(scenes, views) for scenes in ("seeds", "family") for views in (1, 2, 4, 6)])
        for row in rows:
            self.assertIn(row_of_card(row), card)


class Pipelines(Shipped):
    """Through the elements, as a user starts them."""

    def setUp(self):
        super().setUp()
        if not os.environ.get("GST_PLUGIN_PATH") or not shutil.which("gst-launch-1.0"):
            self.skipTest("built without the elements")

    def launch(self, text):
        return subprocess.run(["gst-launch-1.0", "-q", "-e", *text.split()], cwd=self.dir, stdin=subprocess.DEVNULL,
                              text=True, capture_output=True, timeout=100, check=False)

    def works(self, text):
        done = self.launch(text)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done

    def lines(self, name):
        return [json.loads(line) for line in (self.dir / name).read_text(encoding="utf-8").splitlines()]

    def with_description(self, change):
        """A copy of the model whose config.json is changed."""
        description = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
        change(description)
        folder = self.dir / "other"
        folder.mkdir()
        (folder / "model.safetensors").symlink_to(WEIGHTS)
        (folder / "config.json").write_text(json.dumps(description), encoding="utf-8")
        return f"{WALK} ! da3infer model={folder} ! fakesink"

    def test_no_model_means_this_one(self):
        self.works(f"{WALK} ! da3infer views=4 ! da3score location=scores.jsonl ! da3posesink location=poses.jsonl")
        frames = self.lines("poses.jsonl")[1:]
        self.assertEqual([frame["model"] for frame in frames], ["da3-demo"] * 16)
        self.assertTrue(all(frame["pose"] for frame in frames))
        scores = self.lines("scores.jsonl")[-1]
        self.assertEqual([scores["type"], scores["scored"], scores["pairs"]], ["summary", 16, 24])
        print("a walk through the elements:", scores)
        self.assertLess(scores["abs_rel"], bound("kAbsRelWalk"))
        self.assertLess(scores["fov_error"], bound("kFovWalk"))
        self.assertLess(scores["rotation_error_deg"], bound("kRotationWalk"))
        self.assertLess(scores["translation_direction_error_deg"], bound("kDirectionWalk"))

    def test_an_untrained_network_does_not_see_the_walk(self):
        self.works(f"{WALK} ! da3infer model=synthetic:da3-small process-res=112 ! da3score location=scores.jsonl ! fakesink")
        self.assertGreater(self.lines("scores.jsonl")[-1]["abs_rel"], bound("kAbsRelWalk"))

    def test_its_size_is_that_of_its_description(self):
        side = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))["process_res"]
        self.works("da3testsrc num-buffers=1 ! video/x-raw,width=320,height=240 ! da3infer ! da3extract plane=depth "
                   "output-size=model ! filesink location=depth.bin")
        pixels = (self.dir / "depth.bin").stat().st_size // 2
        self.assertIn(pixels, [side * rows for rows in range(14, side, 14) if abs(rows - side * 3 / 4) <= 7])

    def test_a_description_of_another_network_is_refused(self):
        def wider(description):
            description["config"]["net"]["embed_dim"] = 384

        done = self.launch(self.with_description(wider))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("other", done.stderr)

    def test_a_description_that_lacks_a_number_is_refused(self):
        def shorter(description):
            del description["config"]["head"]["out_channels"]

        done = self.launch(self.with_description(shorter))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("out_channels", done.stderr)

    def test_the_demo_without_an_input_scores_it(self):
        demo = BUILD / "tools" / "da3-demo"
        if not demo.exists():
            self.skipTest("built without the tools")
        done = subprocess.run([str(demo), "--render", "--max-frames", "8", "out"], cwd=self.dir,
                              stdin=subprocess.DEVNULL, text=True, capture_output=True, timeout=100, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        summary = json.loads((self.dir / "out/summary.json").read_text(encoding="utf-8"))
        self.assertEqual([summary["model"], summary["frames_out"], summary["views"]], ["da3-demo", 8, 4])
        self.assertEqual(summary["process_res"], json.loads((MODEL / "config.json").read_text())["process_res"])
        for name in ("abs_rel", "delta1", "rotation_error_deg", "translation_direction_error_deg", "fov_error",
                     "ate_relative"):
            self.assertIsInstance(summary[name], float, name)
        self.assertLess(summary["abs_rel"], bound("kAbsRelWalk"))
        self.assertNotIn("untrained", done.stderr)


def main():
    result = unittest.main(exit=False, verbosity=1).result
    failed = len(result.failures) + len(result.errors)
    skipped = len(result.skipped)
    print(f"{result.testsRun - failed - skipped} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
