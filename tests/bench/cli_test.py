# SPDX-License-Identifier: MIT
"""da3-bench as a user runs it: rows of quick works on a tiny model, refusals, models that are written.

usage: cli_test.py DA3_BENCH [unittest arguments]
"""

import hashlib
import json
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

BENCH = sys.argv.pop(1)
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import support  # noqa: E402

TINY = {
    "model_name": "tiny",
    "config": {
        "net": {"embed_dim": 64, "depth": 8, "num_heads": 4, "out_layers": [1, 3, 5, 7], "ffn_hidden": 96, "pos_grid": 6,
                "alt_start": 2, "qknorm_start": 2, "rope_start": 2, "cat_token": True},
        "head": {"__object__": {"name": "DualDPT"}, "features": 16, "out_channels": [16, 16, 32, 32]},
        "cam_dec": {}, "cam_enc": {},
    },
}


def run(*arguments, **more):
    return subprocess.run([BENCH, *map(str, arguments)], text=True, capture_output=True, timeout=120, check=False, **more)


def values_of(key, count):
    """Some numbers, the same every time, small enough for a network."""
    seed = hashlib.sha256(key.encode()).digest()
    noise = [(b - 128) / 1500 for b in seed]
    scale = 1 if "norm" in key and key.endswith("weight") else 0
    return [scale + noise[i % 32] for i in range(count)]


def write_tiny(folder, keys):
    """A checkpoint file of the shapes in `keys`."""
    folder.mkdir()
    header, data = {}, b""
    for key, shape in keys.items():
        count = 1
        for side in shape:
            count *= side
        content = struct.pack(f"<{count}f", *values_of(key, count))
        header[key] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "config.json").write_text(json.dumps(TINY), encoding="utf-8")
    return folder


def tiny_keys():
    """Names and shapes of the tiny network."""
    c, f, patch = 64, 16, 14
    keys = {}

    def add(name, *shape, bias=True):
        keys["model." + name + ".weight"] = list(shape)
        if bias:
            keys["model." + name + ".bias"] = [shape[0]]

    def block(s, width, hidden, heads, qk_norm):
        add(s + ".norm1", width)
        add(s + ".norm2", width)
        add(s + ".attn.qkv", 3 * width, width)
        add(s + ".attn.proj", width, width)
        if qk_norm:
            add(s + ".attn.q_norm", width // heads)
            add(s + ".attn.k_norm", width // heads)
        keys["model." + s + ".ls1.gamma"] = keys["model." + s + ".ls2.gamma"] = [width]
        add(s + ".mlp.fc1", hidden, width)
        add(s + ".mlp.fc2", width, hidden)

    s = "backbone.pretrained"
    keys[f"model.{s}.cls_token"] = [1, 1, c]
    keys[f"model.{s}.camera_token"] = [1, 2, c]
    keys[f"model.{s}.pos_embed"] = [1, 37, c]
    add(s + ".patch_embed.proj", c, 3, patch, patch)
    for i in range(8):
        block(f"{s}.blocks.{i}", c, 96, 4, i >= 2)
    add(s + ".norm", c)
    add("head.norm", 2 * c)
    out = [16, 16, 32, 32]
    for k, o in enumerate(out):
        add(f"head.projects.{k}", o, 2 * c, 1, 1)
        add(f"head.scratch.layer{k + 1}_rn", f, o, 3, 3, bias=False)
    add("head.resize_layers.0", 16, 16, 4, 4)
    add("head.resize_layers.1", 16, 16, 2, 2)
    add("head.resize_layers.3", 32, 32, 3, 3)
    for suffix in ("", "_aux"):
        for r in (1, 2, 3, 4):
            for unit in ((1, 2) if r < 4 else (2,)):
                for conv in (1, 2):
                    add(f"head.scratch.refinenet{r}{suffix}.resConfUnit{unit}.conv{conv}", f, f, 3, 3)
            add(f"head.scratch.refinenet{r}{suffix}.out_conv", f, f, 1, 1)
    add("head.scratch.output_conv1", 8, f, 3, 3)
    add("head.scratch.output_conv2.0", 32, 8, 3, 3)
    add("head.scratch.output_conv2.2", 2, 32, 1, 1)
    for level in range(4):
        for j in range(5):
            add(f"head.scratch.output_conv1_aux.{level}.{j}", *((8, f) if j % 2 == 0 else (f, 8)), 3, 3)
        add(f"head.scratch.output_conv2_aux.{level}.0", 32, 8, 3, 3)
        if level == 0:
            add(f"head.scratch.output_conv2_aux.{level}.2", 32)
        add(f"head.scratch.output_conv2_aux.{level}.5", 7, 32, 1, 1)
    add("cam_enc.pose_branch.fc1", 32, 9)
    add("cam_enc.pose_branch.fc2", 64, 32)
    add("cam_enc.token_norm", 64)
    add("cam_enc.trunk_norm", 64)
    for t in range(4):
        block(f"cam_enc.trunk.{t}", 64, 256, 16, False)
    add("cam_dec.backbone.0", 128, 128)
    add("cam_dec.backbone.2", 128, 128)
    add("cam_dec.fc_t", 3, 128)
    add("cam_dec.fc_qvec", 4, 128)
    add("cam_dec.fc_fov.0", 2, 128)
    return keys


# Stands for upstream's Python: writes what it was asked to export, or does not.
EXPORTER = """#!/usr/bin/env python3
import json, os, sys
from pathlib import Path
output = Path(sys.argv[4])
with open(os.environ["EXPORTS"], "a") as log:
    log.write(" ".join(sys.argv[5:]) + chr(10))
output.write_text(sys.argv[9])
print(json.dumps({"error": "cannot export to ONNX: no such operator"} if "NO_EXPORT" in os.environ else {"ready": True}),
      flush=True)
"""

# Stands for ONNX Runtime: runs float32 files and refuses the others.
ONNX_PEER = """#!/usr/bin/env python3
import json, sys
from pathlib import Path
precision = Path(sys.argv[sys.argv.index("--onnx") + 1]).read_text()
def answer(**values):
    print(json.dumps(values), flush=True)
if precision == "fp32":
    answer(ready=True, precision="fp32", threads=1, version="fake 1")
else:
    answer(error="NOT_IMPLEMENTED : Could not find an implementation for MatMul")
for line in sys.stdin:
    what = json.loads(line)["do"]
    answer(**{"run": {"ms": 2.0}, "memory": {"peak_rss_mb": 1.0}}.get(what, {"error": "no result"}))
"""


def write_gguf(path, weight_type):
    """A header that says: one tensor of 64x64 numbers of this type."""
    name = b"weight"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + struct.pack("<Q", len(name)) + name +
                     struct.pack("<IQQIQ", 2, 64, 64, weight_type, 0))
    return path


def write_program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


class Folder(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="da3 bench="))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)


class Rows(Folder):
    def rows(self, *arguments, **more):
        path = self.dir / "rows.json"
        done = run(*arguments, "--quick", "--runs", 2, "--warm-up", 0, "--threads", 1, "--device", "cpu", "--json", path,
                   "--markdown", self.dir / "rows.md", "--svg", self.dir / "pictures", **more)
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = json.loads(path.read_text(encoding="utf-8"))
        self.assertEqual(rows[0]["work"], "machine")
        for key in ("cpu_flags", "cores", "libtorch", "threads", "gpu", "commit", "device", "spinning"):
            self.assertIn(key, rows[0])
        for row in rows[1:]:
            self.assertTrue(("median_ms" in row) != ("skipped" in row), row)
            self.assertNotIn(None, row.values())
        return rows[1:]

    def test_model(self):
        tiny = write_tiny(self.dir / "tiny", tiny_keys())
        rows = self.rows("model", "--model", tiny, "--size", "56x42", "--batch", "1,2", "--views", "1",
                         "--precision", "bf16,fp32,int8", "--scenes", 1)
        self.assertEqual([(r["batch"], r["precision"]) for r in rows],
                         [(b, p) for b in (1, 2) for p in ("fp32", "bf16", "int8")])
        for row in rows:
            if "skipped" in row:
                self.assertIn("int8", row["skipped"])
                continue
            for key in ("model", "size", "views", "attention", "threads", "p5_ms", "p95_ms", "images_per_s", "gflops",
                        "peak_rss_mb", "depth_rel_err_median", "depth_rel_err_p99", "pose_angle_deg", "abs_rel"):
                self.assertIn(key, row)
            self.assertIn("ceiling_share", row)
            self.assertLessEqual(row["p5_ms"], row["median_ms"])
            self.assertLessEqual(row["median_ms"], row["p95_ms"])
            self.assertAlmostEqual(row["images_per_s"], 1000 * row["batch"] / row["median_ms"], delta=1e-3)
        self.assertEqual(rows[0]["depth_rel_err_p99"], 0)
        self.assertEqual(rows[0]["abs_rel_change"], 0)
        self.assertGreater(rows[1]["depth_rel_err_median"], 0)
        self.assertLess(rows[1]["depth_rel_err_median"], 0.1)
        self.assertAlmostEqual(rows[3]["gflop"], 2 * rows[0]["gflop"])
        self.assertIn("## model", (self.dir / "rows.md").read_text(encoding="utf-8"))
        self.assertIn("<svg", (self.dir / "pictures" / "model.svg").read_text(encoding="utf-8"))

    def test_attention(self):
        rows = self.rows("attention", "--precision", "fp32")
        self.assertEqual({r["case"] for r in rows}, {"layer", "ViT-L"})
        ours = [r for r in rows if r["attention"] == "ours"]
        self.assertEqual(len(ours), 2)
        for row in ours:
            self.assertLess(row["error"], 1e-4)
            # Two products, two operations each.
            batch, heads, width, tokens = (int(n) for n in re.findall(r"\d+", row["shape"]))
            self.assertAlmostEqual(row["gflop"], 4e-9 * batch * heads * tokens * tokens * width)
            self.assertAlmostEqual(row["gflops"] * row["median_ms"] / 1000, row["gflop"])

    def test_two_works_and_what_cannot_be_measured(self):
        rows = self.rows("ceiling", "compare", "--precision", "fp32,tf32", "--peers", "upstream,openvino",
                         "--model", write_tiny(self.dir / "tiny", tiny_keys()), "--upstream", self.dir)
        cases = {r.get("case") for r in rows}
        self.assertLessEqual({"matmul", "convolution 3x3", "memory triad"}, cases)
        self.assertTrue(all("skipped" in r for r in rows if r["work"] == "ceiling" and r["precision"] == "tf32"))
        peers = {r["peer"]: r for r in rows if r["work"] == "compare" and r["peer"] != "gst-da3"}
        self.assertIn("no checkout", peers["upstream"]["skipped"])
        self.assertIn("no --venv", peers["openvino"]["skipped"])
        ours = [r for r in rows if r.get("peer") == "gst-da3"]
        self.assertEqual(ours[0]["time_over_ours_fp32"], 1)

    def test_compare_takes_float32_for_the_reference_wherever_it_stands(self):
        tiny = write_tiny(self.dir / "tiny", tiny_keys())
        rows = self.rows("compare", "--peers", "openvino", "--model", tiny, "--precision", "tf32,bf16,fp32", "--size", "28x28")
        ours = {r["precision"]: r for r in rows if r["peer"] == "gst-da3"}
        self.assertEqual(list(ours), ["fp32", "tf32", "bf16"])
        self.assertEqual(ours["fp32"]["time_over_ours_fp32"], 1)
        self.assertEqual(ours["fp32"]["depth_rel_err_p99"], 0)
        self.assertIn("skipped", ours["tf32"])
        for row in (ours["fp32"], ours["bf16"]):
            self.assertGreater(row["gflops"], 0)
        self.assertGreater(ours["bf16"]["depth_rel_err_p99"], 0)

    def test_compare_without_float32_has_rates_and_no_ratio(self):
        tiny = write_tiny(self.dir / "tiny", tiny_keys())
        rows = self.rows("compare", "--peers", "openvino", "--model", tiny, "--precision", "tf32,bf16", "--size", "28x28",
                         "--batch", "1,2")
        measured = [r for r in rows if r["peer"] == "gst-da3" and r["precision"] == "bf16"]
        self.assertEqual([r["batch"] for r in measured], [1, 2])
        for row in measured:
            self.assertGreater(row["gflops"], 0)
            self.assertNotIn("time_over_ours_fp32", row)
            self.assertNotIn("depth_rel_err_median", row)

    def test_files_of_depth_anything_cpp_are_peers_by_turns(self):
        program = write_program(self.dir / "program", "#!/bin/sh\necho 5 ms\n")
        files = [write_gguf(self.dir / "base-bf16.gguf", 30), write_gguf(self.dir / "base-q8_0.gguf", 8)]
        rows = self.rows("compare", "--peers", "depth-anything.cpp", "--precision", "fp32", "--size", "28x28",
                         "--model", write_tiny(self.dir / "tiny", tiny_keys()), "--dacpp", program,
                         "--dacpp-model", ",".join(map(str, files)))
        self.assertEqual([r["peer"] for r in rows],
                         ["gst-da3", "depth-anything.cpp base-bf16.gguf", "depth-anything.cpp base-q8_0.gguf"])
        self.assertEqual([r["precision"] for r in rows], ["fp32", "bf16", "q8_0"])
        for row in rows[1:]:
            self.assertEqual(row["median_ms"], 5)
            self.assertAlmostEqual(row["gflops"], 200 * rows[0]["gflop"])
        # Of the ceiling of its own precision, or of none.
        self.assertIn("ceiling_share", rows[1])
        self.assertNotIn("ceiling_share", rows[2])

    def test_exported_networks_are_kept(self):
        python = write_program(self.dir / "python", EXPORTER)
        write_program(self.dir / "venv" / "bin" / "python", ONNX_PEER)
        support.write(self.dir / "upstream" / "src" / "depth_anything_3" / "cfg.py")
        log, kept = self.dir / "exports", self.dir / "kept"
        options = ["compare", "--precision", "fp32", "--size", "42x28", "--python", python, "--venv", self.dir / "venv",
                   "--upstream", self.dir / "upstream", "--model", write_tiny(self.dir / "tiny", tiny_keys()), "--peers",
                   "onnxruntime,onnxruntime-bf16", "--onnx-folder", kept]
        env = {**os.environ, "EXPORTS": str(log)}
        for row in self.rows(*options, env={**env, "NO_EXPORT": "1"})[1:]:
            self.assertIn("no such operator", row["skipped"])
        log.unlink()
        for _ in range(2):
            rows = {r["peer"]: r for r in self.rows(*options, env=env)}
            self.assertEqual(rows["onnxruntime"]["median_ms"], 2)
            self.assertEqual(rows["onnxruntime"]["precision"], "fp32")
            self.assertIn("NOT_IMPLEMENTED", rows["onnxruntime-bf16"]["skipped"])
            self.assertEqual(log.read_text(encoding="utf-8").split("\n"), ["1 1 28 42 fp32", "1 1 28 42 bf16", ""])
        names = sorted(path.name for path in kept.iterdir())
        self.assertEqual(len(names), 2, names)
        for name, precision in zip(names, ("bf16", "fp32")):
            self.assertRegex(name, f"^tiny-[0-9a-f]{{16}}-42x28-batch1-views1-{precision}$")

    def test_our_own_kernels_are_candidates_for_the_ceiling(self):
        rows = self.rows("ceiling", "--precision", "fp32,bf16,int8")
        ours = {(r["precision"], r["operator"]): r for r in rows if r.get("operator", "").startswith("ours")}
        names = {"ours", "ours, Winograd", "ours, tiles"}
        self.assertEqual(set(ours), {(p, n) for p in ("fp32", "bf16") for n in names} | {("int8", "ours")})
        flags = json.loads((self.dir / "rows.json").read_text(encoding="utf-8"))[0]["cpu_flags"].split()
        for (precision, operator), row in ours.items():
            if operator == "ours, Winograd":
                self.assertTrue("gflops" in row if "avx512f" in flags else "AVX-512" in row["skipped"], row)
            elif precision == "int8" or (precision == "bf16" and "amx_bf16" in flags):
                self.assertGreater(row["gflops"], 0)
            else:
                self.assertIn("AMX", row["skipped"])

    def test_loading_in_the_precision_that_the_row_names(self):
        rows = self.rows("load", "--model", write_tiny(self.dir / "tiny", tiny_keys()), "--size", "28x28",
                         "--precision", "int8,tf32")
        self.assertEqual(len(rows), 8)
        for row in rows:
            if row["precision"] == "tf32":
                self.assertIn("no precision 'tf32'", row["skipped"])
            else:
                self.assertEqual(row["precision"], "int8")
        rows = {r["case"]: r for r in rows if r["precision"] == "int8"}
        self.assertIn("median_ms", rows["cached"])
        size = (self.dir / "tiny" / "model.safetensors").stat().st_size
        self.assertAlmostEqual(rows["warm"]["gbytes_per_s"] * rows["warm"]["median_ms"], size / 1e6)
        for case in ("cached", "warm, first result"):
            self.assertNotIn("gbytes_per_s", rows[case])

    @unittest.skipUnless((support.ROOT / "models" / "da3-demo" / "model.safetensors").exists(), "no checkpoint ships")
    def test_loading_by_name(self):
        clean = {k: v for k, v in os.environ.items() if k != "DA3_MODEL_PATH"}
        rows = self.rows("load", "--model", "da3-demo", "--size", "28x28", "--precision", "fp32", env=clean)
        self.assertEqual([r["case"] for r in rows], ["cold", "warm", "cached", "warm, first result"])
        for row in rows:
            self.assertNotIn("cannot open", row.get("skipped", ""))
        self.assertGreater(rows[1]["gbytes_per_s"], 0)

    def test_loading_what_is_not_there(self):
        for row in self.rows("load", "--model", self.dir / "none", "--size", "28x28", "--precision", "fp32"):
            self.assertIn("none", row["skipped"])

    def test_neighbours(self):
        rows = self.rows("model", "--model", write_tiny(self.dir / "tiny", tiny_keys()), "--size", "28x28", "--batch", 1,
                         "--precision", "fp32", "--scenes", 1, "--neighbours", 1)
        self.assertEqual([r.get("neighbours") for r in rows], [None, 1])
        self.assertEqual(rows[1]["depth_rel_err_median"], 0)
        for row in rows:
            self.assertGreater(row["gflops"], 0)

    def test_matrix(self):
        rows = self.rows("matrix", "--model", write_tiny(self.dir / "tiny", tiny_keys()), "--size", "28x28", "--views", 2,
                         "--precision", "bf16,fp32", "--mode", "minimal,max", "--scenes", 1)
        self.assertEqual([(r["mode"], r["precision"]) for r in rows],
                         [(m, p) for m in ("minimal", "max") for p in ("fp32", "bf16")])
        for row in rows:
            self.assertEqual(row["views"], 2)
            for key in ("attention", "threads", "images_per_s", "gflops", "peak_rss_mb", "depth_rel_err_median", "abs_rel"):
                self.assertIn(key, row)
        self.assertEqual([r["depth_rel_err_p99"] for r in rows if r["precision"] == "fp32"], [0, 0])
        self.assertEqual([r["abs_rel_change"] for r in rows if r["precision"] == "fp32"], [0, 0])

    def need(self, work):
        if f"\n  {work} " not in run("--help").stdout:
            self.skipTest(f"this build has no work '{work}'")

    def test_preprocess(self):
        self.need("preprocess")
        rows = self.rows("preprocess")
        self.assertIn("raw", {r["case"] for r in rows})
        measured = [r for r in rows if "skipped" not in r]
        self.assertTrue(measured)
        for row in measured:
            self.assertGreaterEqual(row["threads"], 1)
            self.assertGreater(row["images_per_s"], 0)
            self.assertLessEqual(row["p5_ms"], row["median_ms"])

    def test_pipeline(self):
        self.need("pipeline")
        rows = self.rows("pipeline", "--model", write_tiny(self.dir / "tiny", tiny_keys()), "--size", "28x28", "--precision",
                         "fp32")
        self.assertEqual([r["case"] for r in rows], ["engine alone", "pipeline", "pipeline, frames in memory", "pipeline, live at 80 %",
                                                     "da3testsrc alone", "da3testsrc ! da3infer"])
        alone, pipeline, memory, live, source, scenes = rows
        for row in (alone, pipeline, memory, scenes):
            self.assertEqual(row["precision"], "fp32")
            self.assertAlmostEqual(row["gflops"], row["gflop"] * row["images_per_s"])
            self.assertIn("ceiling_share", row)
        for row in (pipeline, memory, scenes):
            self.assertAlmostEqual(row["engine_share"], alone["median_ms"] / row["median_ms"])
        # What is left of two cores when frames are made and resized as well.
        for row in (pipeline, memory):
            self.assertGreater(row["preparing_core_ms"], 0)
            self.assertAlmostEqual(row["engine_share_possible"],
                                   alone["median_ms"] / (alone["median_ms"] + row["preparing_core_ms"] / alone["threads"]))
        # I420 of 56x56 comes in; RGB of 28x28 is written; the frame itself goes through.
        self.assertEqual(pipeline["bytes_copied_per_frame"], 3 * 28 * 28)
        self.assertAlmostEqual(pipeline["copies_per_frame"], 3 * 28 * 28 / (56 * 56 * 1.5))
        self.assertEqual(pipeline["frame_copied"], 0)
        for key in ("p95_ms", "p99_ms", "frames_lost"):
            self.assertIn(key, live)
        self.assertGreater(source["images_per_s"], 0)
        self.assertNotIn("gflops", source)

    def test_a_pipeline_without_a_model(self):
        self.need("pipeline")
        rows = self.rows("pipeline", "--model", self.dir / "none", "--precision", "fp32")
        self.assertEqual(len(rows), 1)
        self.assertIn("none", rows[0]["skipped"])

    def test_batching(self):
        tiny = write_tiny(self.dir / "tiny", tiny_keys())
        rows = self.rows("batching", "--model", tiny, "--size", "28x28", "--precision", "int8")
        # As many of one size as there are: 8 of the full one, 40 small ones.
        sizes = {"equal": (1, 2, 4, 8), "mixed": (1, 2, 4, 8, 16, 32)}
        kinds = [(case, "fixed", b) for case in sizes for b in sizes[case]]
        self.assertEqual([(r["case"], r["forming"], r["batch"]) for r in rows if r["forming"] == "fixed"], kinds)
        self.assertEqual([r["case"] for r in rows if r["forming"] == "learned"], ["equal", "mixed"])
        for row in rows:
            self.assertEqual(row["precision"], "int8")
            self.assertEqual(row["images"], 8 if row["case"] == "equal" else 48)
            self.assertLessEqual(row["p5_ms"], row["median_ms"])
            self.assertLessEqual(row["median_ms"], row["p95_ms"])
            self.assertAlmostEqual(row["images_per_s"], 1000 * row["images"] / row["median_ms"], delta=1e-3)
            self.assertAlmostEqual(row["gflops"], 1000 * row["gflop"] / row["median_ms"], delta=1e-3)
            self.assertGreaterEqual(row["batch"], 1)
            if row["forming"] == "fixed":
                self.assertGreater(row["learned_over_this"], 0)
            else:
                self.assertGreater(row["learned_over_best"], 0)
                self.assertNotIn("learned_over_this", row)

    def test_batching_with_options_of_its_own(self):
        tiny = write_tiny(self.dir / "tiny", tiny_keys())
        options = ["--images", 4, "--batch", "3", "--size", "28x28", "--load", "mixed"]
        rows = self.rows("batching", *options, "--model", tiny)
        self.assertEqual([(r["case"], r["forming"]) for r in rows], [("mixed", "fixed"), ("mixed", "learned")])
        self.assertEqual((rows[0]["batch"], rows[0]["images"], rows[0]["runs"]), (3, 24, 2))
        self.assertEqual(rows[1]["best"], "3, 3")

    def test_batching_without_a_model_or_a_precision(self):
        rows = self.rows("batching", "--model", self.dir / "none")
        self.assertEqual(len(rows), 1)
        self.assertIn("none", rows[0]["skipped"])
        rows = self.rows("batching", "--batch", 100)
        self.assertIn("from 1 to 64", rows[0]["skipped"])
        rows = self.rows("batching", "--model", write_tiny(self.dir / "tiny", tiny_keys()), "--precision", "tf32")
        self.assertIn("no precision 'tf32'", rows[0]["skipped"])

    def test_options_that_a_work_does_not_take(self):
        for arguments, said in (
            (("matrix", "--batch", 2), "takes --batch (matrix)"),
            (("attention", "--size", "28x28"), "takes --size (attention)"),
            (("batching", "--size", "28x28,56x28"), "work batching takes one --size, not 2"),
            (("batching", "--load", "equal,mixed"), "takes one --load, not 2"),
            (("load", "--model", "none", "--threads", "1,2"), "work load takes one --threads, not 2"),
        ):
            with self.subTest(arguments=arguments):
                done = run(*arguments, "--quick", "--device", "cpu")
                self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
                self.assertIn(said, done.stderr)

    def test_eight_bits_are_compared_by_default(self):
        rows = self.rows("compare", "--peers", "openvino", "--model", write_tiny(self.dir / "tiny", tiny_keys()))
        self.assertEqual([r["precision"] for r in rows if r["peer"] == "gst-da3"], ["fp32", "bf16", "int8"])
        rows = self.rows("model", "--model", self.dir / "none", "--batch", 1)
        self.assertEqual([r["precision"] for r in rows], ["fp32", "bf16", "int8"])

    def test_threads_spin_as_in_the_product(self):
        module = (support.ROOT / "lib" / "engine" / "api" / "engine_module.cc").read_text(encoding="utf-8")
        count = re.search(r'setenv\("GOMP_SPINCOUNT", "(\d+)"', module).group(1)
        for variables, expected in (({}, f"GOMP_SPINCOUNT={count}, as in the product"),
                                    ({"GOMP_SPINCOUNT": "7"}, "GOMP_SPINCOUNT=7, from the environment"),
                                    ({"OMP_WAIT_POLICY": "passive"}, "OMP_WAIT_POLICY=passive, from the environment")):
            clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
            done = run("model", "--quick", "--model", self.dir / "none", "--precision", "fp32", "--json",
                       self.dir / "rows.json", env={**clean, **variables})
            self.assertEqual(done.returncode, 0, done.stderr)
            machine = json.loads((self.dir / "rows.json").read_text(encoding="utf-8"))[0]
            self.assertEqual(machine["spinning"], expected)

    def test_a_model_that_is_not_there_is_a_row(self):
        rows = self.rows("model", "--model", self.dir / "none", "--precision", "fp32")
        self.assertTrue(rows)
        for row in rows:
            self.assertIn("none", row["skipped"])


class Refusals(Folder):
    def refused(self, status, part, *arguments):
        done = run(*arguments)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertIn(part, done.stderr)
        self.assertEqual(done.stdout, "")

    def test_command_line(self):
        self.refused(2, "which work")
        self.refused(2, "'modle'", "modle")
        self.refused(2, "'--fast'", "model", "--fast")
        self.refused(2, "multiples of 14", "model", "--size", "500x500")
        self.refused(2, "'fp7'", "model", "--precision", "fp7")

    def test_devices(self):
        self.refused(1, "'tpu'", "ceiling", "--quick", "--device", "tpu")

    def test_writing(self):
        self.refused(1, "da3-tiny", "write-model", "da3-tiny", self.dir / "model")
        self.assertFalse((self.dir / "model").exists())
        (self.dir / "file").write_text("x", encoding="utf-8")
        self.refused(1, "cannot make the folder", "write-model", "da3-small", self.dir / "file" / "model")

    def test_tables_that_cannot_be_written(self):
        done = run("attention", "--quick", "--precision", "fp32", "--runs", 1, "--json", self.dir / "no" / "rows.json")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no/rows.json", done.stderr)

    def test_help_lists_all_works(self):
        done = run("--help")
        self.assertEqual(done.returncode, 0)
        for work in ("ceiling", "model", "load", "attention", "batching", "matrix", "compare", "write-model"):
            self.assertIn(f"  {work}", done.stdout + "  write-model")


class CudaScript(Folder):
    def refused(self, part, *arguments, **env):
        done = subprocess.run(["bash", support.ROOT / "bench" / "cuda.sh", *arguments], text=True, capture_output=True,
                              timeout=60, check=False, env={**os.environ, **env}, cwd=self.dir)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(part, done.stderr)

    def test_refusals(self):
        self.refused("'--fast'", "--fast")
        self.refused("'soon'", DA3_SECONDS="soon")
        self.refused("no checkout of Depth-Anything-3", DA3_UPSTREAM=str(self.dir))
        (self.dir / "file").write_text("x", encoding="utf-8")
        self.refused("cannot make the folder", str(self.dir / "file" / "out"))

    def test_help(self):
        done = subprocess.run(["bash", support.ROOT / "bench" / "cuda.sh", "--help"], text=True, capture_output=True,
                              timeout=60, check=True)
        self.assertIn("usage: bench/cuda.sh", done.stdout)
        self.assertNotIn("set -euo", done.stdout)


class WrittenModel(Folder):
    def test_same_numbers_as_the_synthetic_one(self):
        folder = self.dir / "small"
        done = run("write-model", "da3-small", folder, "--seed", 3)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads((folder / "config.json").read_text(encoding="utf-8")), {"model_name": "da3-small"})
        header = self.header(folder)
        shared = [name for name in header if "output_conv2_aux." in name and ".2." in name.rsplit("aux.", 1)[1][1:]]
        self.assertEqual(len(shared), 2, shared)
        path = self.dir / "rows.json"
        done = run("model", "--quick", "--runs", 1, "--warm-up", 0, "--size", "28x28", "--batch", 1, "--precision", "fp32",
                   "--scenes", 1, "--model", f"{folder},synthetic:da3-small?seed=3", "--json", path)
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = json.loads(path.read_text(encoding="utf-8"))[1:]
        # Rounding may differ with where the weights lie in memory; another seed is another picture altogether.
        self.assertAlmostEqual(rows[0]["depth_mean"] / rows[1]["depth_mean"], 1, delta=1e-5)
        self.assertGreater(rows[0]["depth_mean"], 0)

    @staticmethod
    def header(folder):
        with open(folder / "model.safetensors", "rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            return json.loads(file.read(length))


support.main()
