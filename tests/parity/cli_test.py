#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""da3-parity as a program: what it prints, when it fails, and that an altered recording is noticed."""

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
GOLDENS = ROOT / "tests" / "data" / "goldens"
PARITY = ""


def run(*args):
    return subprocess.run([PARITY, *map(str, args)], capture_output=True, text=True, check=False, timeout=100)


class Recording:
    """A safetensors file in memory."""

    def __init__(self, path):
        self.path = Path(path)
        content = self.path.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        self.header = json.loads(content[8 : 8 + length])
        self.data = bytearray(content[8 + length :])

    def floats(self, name):
        begin, end = self.header[name]["data_offsets"]
        return list(struct.unpack(f"<{(end - begin) // 4}f", self.data[begin:end]))

    def set_float(self, name, index, value):
        struct.pack_into("<f", self.data, self.header[name]["data_offsets"][0] + 4 * index, value)

    def save(self):
        text = json.dumps(self.header).encode()
        text += b" " * (-len(text) % 8)
        self.path.write_bytes(struct.pack("<Q", len(text)) + text + self.data)


class Folder(unittest.TestCase):
    """Each test has its own copy of the recordings."""

    CASE = "small_b2s2_56x70"

    def setUp(self):
        self.temp = tempfile.TemporaryDirectory()
        self.folder = Path(self.temp.name) / "goldens"
        shutil.copytree(GOLDENS, self.folder)

    def tearDown(self):
        self.temp.cleanup()

    def manifest(self, change):
        path = self.folder / "manifest.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        change(manifest)
        path.write_text(json.dumps(manifest), encoding="utf-8")

    def case_of(self, manifest):
        return next(c for c in manifest["cases"] if c["name"] == self.CASE)

    def expect_failure(self, row, case=None):
        """Exit status 1, exactly one failing row that names what is wrong, and it is counted."""
        done = run(self.folder, "--case", case or self.CASE)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        failing = [line for line in done.stdout.splitlines() if line.endswith(" FAIL")]
        self.assertEqual(len(failing), 1, done.stdout)
        self.assertIn(row, failing[0])
        self.assertRegex(done.stdout.splitlines()[-1], r"^\d+ passed, 1 failed")
        return done


class Passing(Folder):
    def test_rows_and_closing_line(self):
        done = run(self.folder, "--case", self.CASE)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        lines = done.stdout.splitlines()
        self.assertRegex(lines[-1], r"^\d+ passed, 0 failed$")
        self.assertEqual(int(lines[-1].split()[0]), len(lines) - 1)
        self.assertTrue(all(line.endswith(" pass") for line in lines[:-1]))
        self.assertTrue(any(re.search(r"\bdepth\b.*max abs .*tol", line) for line in lines))
        self.assertEqual(done.stderr, "")

    def test_quiet_prints_the_closing_line_only(self):
        done = run(self.folder, "--case", self.CASE, "--quiet")
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"^\d+ passed, 0 failed\n$")

    def test_a_pattern_selects(self):
        done = run(self.folder, "--case", "normalize_*")
        self.assertEqual(done.returncode, 0)
        self.assertTrue(done.stdout.endswith("5 passed, 0 failed\n"), done.stdout)

    def test_half_precision_is_judged_as_a_whole(self):
        done = run(self.folder, "--case", self.CASE, "--precision", "bf16")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("rms rel", done.stdout)

    def test_help(self):
        for option in ("--help", "-h"):
            done = run(option)
            self.assertEqual(done.returncode, 0)
            self.assertIn("usage: da3-parity DIR", done.stdout)


class Refused(Folder):
    """Exit status 2, the reason on stderr, no closing line that could be taken for a result."""

    def expect_refusal(self, *args, text):
        done = run(*args)
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        self.assertIn("da3-parity: ", done.stderr)
        self.assertIn(text, done.stderr)
        self.assertNotIn("passed", done.stdout)
        return done

    def test_no_folder(self):
        self.expect_refusal(text="no folder given")

    def test_two_folders(self):
        self.expect_refusal(self.folder, self.folder, text="more than one folder")

    def test_unknown_option(self):
        done = self.expect_refusal(self.folder, "--cases", "x", text="unknown option '--cases'")
        self.assertIn("usage:", done.stderr)

    def test_option_without_value(self):
        for option in ("--case", "--device", "--precision"):
            self.expect_refusal(self.folder, option, text=f"{option} needs a value")

    def test_unknown_precision(self):
        self.expect_refusal(self.folder, "--precision", "int8", text="'int8'")

    def test_unknown_device(self):
        self.expect_refusal(self.folder, "--device", "gpu", text="'gpu'")

    def test_folder_that_is_not_there(self):
        self.expect_refusal(self.folder / "none", text=str(self.folder / "none" / "manifest.json"))

    def test_no_manifest(self):
        (self.folder / "manifest.json").unlink()
        self.expect_refusal(self.folder, text="manifest.json")

    def test_no_case_matches(self):
        self.expect_refusal(self.folder, "--case", "huge*", text="no case matches 'huge*'")

    def test_empty_manifest(self):
        (self.folder / "manifest.json").write_text("{}", encoding="utf-8")
        self.expect_refusal(self.folder, text="no case matches")

    def test_manifest_that_is_no_json(self):
        path = self.folder / "manifest.json"
        path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
        self.expect_refusal(self.folder, text="manifest.json is no list of cases")

    def test_manifest_of_another_kind(self):
        (self.folder / "manifest.json").write_text("[1, 2]", encoding="utf-8")
        self.expect_refusal(self.folder, text="manifest.json is no list of cases")


class Altered(Folder):
    def test_one_value_of_one_tensor(self):
        recording = Recording(self.folder / f"{self.CASE}.safetensors")
        value = recording.floats("depth")[7]
        recording.set_float("depth", 7, value * 1.001)
        recording.save()
        self.expect_failure("depth ")

    def test_a_value_that_is_not_finite(self):
        recording = Recording(self.folder / f"{self.CASE}.safetensors")
        recording.set_float("extrinsics", 3, float("nan"))
        recording.save()
        self.expect_failure("extrinsics")

    def test_a_picture_made_otherwise(self):
        def change(manifest):
            self.case_of(manifest)["first_input_values"] = [9.0]

        self.manifest(change)
        self.expect_failure("first input values")

    def test_a_shape_that_is_not_the_networks(self):
        def change(manifest):
            self.case_of(manifest)["tensors"]["pose_enc"]["shape"] = [1, 2, 2, 9, 1, 1]
            self.case_of(manifest)["tensors"]["intrinsics"]["shape"] = [2, 2, 3, 1]
            self.case_of(manifest)["tensors"]["intrinsics"]["stride"] = 1

        # The first is another way to write the same number of values, the second contradicts the file.
        self.manifest(change)
        done = self.expect_failure("run")
        self.assertIn("'intrinsics' has 36 values, expected 12", done.stdout)

    def test_a_stage_that_does_not_exist(self):
        def change(manifest):
            tensors = self.case_of(manifest)["tensors"]
            tensors["block.99"] = tensors["intrinsics"]

        self.manifest(change)
        recording = Recording(self.folder / f"{self.CASE}.safetensors")
        recording.header["block.99"] = recording.header.pop("intrinsics")
        recording.save()
        done = run(self.folder, "--case", self.CASE)
        self.assertEqual(done.returncode, 1)
        self.assertIn(" FAIL", done.stdout)

    def test_a_recording_that_is_missing_or_cut(self):
        path = self.folder / f"{self.CASE}.safetensors"
        path.write_bytes(path.read_bytes()[:-4])
        self.expect_failure("run")
        path.unlink()
        self.expect_failure("run")

    def test_an_unknown_model_or_strategy(self):
        for key, value in (("model", "da3-colossal"), ("ref_view_strategy", "last")):
            with self.subTest(key):
                self.manifest(lambda m, k=key, v=value: self.case_of(m).update({k: v}))
                self.assertIn(value, self.expect_failure("run").stdout)
                self.manifest(lambda m, k=key: self.case_of(m).update({k: "da3-small" if k == "model" else "first"}))

    def test_another_reference_view(self):
        case = "small_s3_56x84_saddle_balanced"

        def change(manifest):
            c = next(c for c in manifest["cases"] if c["name"] == case)
            c["ref_view_index"], c["ref_view_tied"] = [1], [[1]]

        self.manifest(change)
        self.expect_failure("ref_view_index", case)

    def test_wrong_weights(self):
        self.manifest(lambda m: m["weight_check"][0].update({"last_bits": "00000000"}))
        self.expect_failure("cls_token", "weight_check")

    def test_wrong_number_of_keys(self):
        self.manifest(lambda m: m["models"]["da3-small"].update({"tensors": 444}))
        self.expect_failure("443 tensors", "keys_da3-small")

    def test_the_ray_solver(self):
        recording = Recording(self.folder / "rays_s2_24x32.safetensors")
        recording.set_float("extrinsics", 5, recording.floats("extrinsics")[5] + 0.01)
        recording.save()
        self.expect_failure("extrinsics", "rays_s2_24x32")

    def test_camera_normalisation(self):
        recording = Recording(self.folder / "normalize_extrinsics.safetensors")
        recording.set_float("out.s4", 7, recording.floats("out.s4")[7] + 0.01)
        recording.save()
        self.expect_failure("out.s4", "normalize_*")


if __name__ == "__main__":
    PARITY = sys.argv.pop(1)
    unittest.main()
