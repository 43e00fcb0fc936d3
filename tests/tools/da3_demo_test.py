#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""da3-demo as a user runs it, on the stub engine: what is written, and what a broken input, model or disk comes to."""

import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

BUILD = Path(os.environ.get("DA3_BUILD_ROOT", ""))
RESULTS = ["depth.mp4", "depth.mkv", "poses.jsonl", "poses.tum", "preview.png", "summary.json"]
WIDTH, HEIGHT, FRAMES = 112, 84, 12


class Demo(unittest.TestCase):
    def setUp(self):
        # A blank and a quote: both are allowed in a path.
        self.dir = Path(tempfile.mkdtemp(prefix="da3 demo'")).resolve()
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.env = dict(os.environ, DA3_ENGINE_PATH=os.environ["DA3_STUB_ENGINE"])

    def command(self, *arguments, model="stub:"):
        options = [] if model is None else ["--model", model]
        return [str(BUILD / "tools" / "da3-demo"), "--process-res", "56", *options, *map(str, arguments)]

    def run_demo(self, *arguments, **more):
        return subprocess.run(self.command(*arguments, **more), cwd=self.dir, env=self.env, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)

    def works(self, *arguments, **more):
        done = self.run_demo(*arguments, **more)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done

    def fails(self, words, *arguments, status=1, **more):
        done = self.run_demo(*arguments, **more)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        self.assertRegex(done.stderr, words)
        # One sentence, not a stack of consequences.
        self.assertEqual(len(re.findall(r"^da3-demo: error:", done.stderr, re.M)), 1 if status == 1 else 0, done.stderr)
        return done

    def launch(self, *words):
        return subprocess.run(["gst-launch-1.0", "-q", "-e", *map(str, words)], cwd=self.dir, env=self.env, check=True,
                              timeout=60, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def make_video(self, name="in.mkv", frames=FRAMES, width=WIDTH, height=HEIGHT, muxer="matroskamux"):
        self.launch("videotestsrc", "pattern=ball", f"num-buffers={frames}", "!",
                    f"video/x-raw,width={width},height={height},framerate=10/1", "!", "x264enc", "key-int-max=5", "!",
                    muxer, "!", "filesink", f"location={name}")
        return name

    def make_image(self, name, width, height, encoder):
        (self.dir / name).parent.mkdir(exist_ok=True)
        self.launch("videotestsrc", "num-buffers=1", "!", f"video/x-raw,width={width},height={height}", "!",
                    "videoconvert", "!", *encoder.split(), "!", "filesink", f"location={name}")
        return name

    def summary(self, outdir="out"):
        return json.loads((self.dir / outdir / "summary.json").read_text())

    def objects(self, outdir="out"):
        return [json.loads(line) for line in (self.dir / outdir / "poses.jsonl").read_text().splitlines()]

    def trajectory(self, outdir="out"):
        lines = (self.dir / outdir / "poses.tum").read_text().splitlines()
        return [line.split() for line in lines if not line.startswith("#")]

    def raw_frames(self, name, caps, frame_bytes):
        """Decoded frames of a recording."""
        self.launch("filesrc", f"location={name}", "!", "decodebin", "!", "videoconvert", "!", f"video/x-raw,{caps}", "!",
                    "filesink", "location=raw.bin")
        raw = (self.dir / "raw.bin").read_bytes()
        self.assertEqual(len(raw) % frame_bytes, 0)
        return [raw[at:at + frame_bytes] for at in range(0, len(raw), frame_bytes)]

    def coloured(self, outdir="out", width=2 * WIDTH, height=HEIGHT):
        return self.raw_frames(f"{outdir}/depth.mp4", f"format=RGB,width={width},height={height}", 3 * width * height)

    def depth(self, outdir="out", width=56, height=42):
        return self.raw_frames(f"{outdir}/depth.mkv", f"format=GRAY16_LE,width={width},height={height}", 2 * width * height)

    # ---- what it writes

    def test_video(self):
        done = self.works(self.make_video(), "out")
        summary = self.summary()
        self.assertEqual([summary["frames_in"], summary["frames_out"]], [FRAMES, FRAMES])
        self.assertEqual(summary["files"], RESULTS)
        self.assertEqual(sorted(path.name for path in (self.dir / "out").iterdir()), sorted(RESULTS))
        self.assertEqual([summary["model"], summary["device"], summary["precision"]], ["stub", "cpu", "fp32"])
        self.assertGreater(summary["fps"], 0)
        self.assertGreater(summary["peak_rss_mb"], 10)
        self.assertNotIn("error", summary)
        self.assertEqual(len(self.coloured()), FRAMES)
        self.assertEqual(len(self.depth()), FRAMES)
        self.assertEqual(len(self.trajectory()), FRAMES)
        objects = self.objects()
        self.assertEqual([one["frame"] for one in objects[1:]], list(range(FRAMES)))
        self.assertAlmostEqual(objects[3]["pts"] - objects[2]["pts"], 0.1, places=3)
        self.assertTrue((self.dir / "out/preview.png").read_bytes().startswith(b"\x89PNG"))
        for name in RESULTS:
            self.assertIn(name, done.stdout)
        self.assertIn(f"frame {FRAMES} of {FRAMES}", done.stderr)

    def test_the_recording_is_what_da3extract_gives(self):
        video = self.make_video()
        self.works(video, "out")
        self.launch("filesrc", f"location={video}", "!", "decodebin", "!", "da3infer", "model=stub:", "process-res=56", "!",
                    "da3extract", "plane=depth", "!", "filesink", "location=direct.bin")
        self.assertEqual(b"".join(self.depth()), (self.dir / "direct.bin").read_bytes())

    def test_max_frames(self):
        self.works("--max-frames", 5, self.make_video(), "out")
        self.assertEqual(self.summary()["frames_in"], 5)
        self.assertEqual(self.summary()["frames"], dict.fromkeys(RESULTS[:4], 5))
        self.assertEqual([len(self.coloured()), len(self.depth()), len(self.trajectory())], [5, 5, 5])

    def test_max_frames_beyond_the_end(self):
        self.works("--max-frames", 500, self.make_video(), "out")
        self.assertEqual(self.summary()["frames_out"], FRAMES)

    def test_views_close_at_the_end_only(self):
        self.works("--views", 5, self.make_video(), "out")
        self.assertEqual([one["window"] for one in self.objects()[1:]], [0] * 5 + [1] * 5 + [2] * 2)

    def test_an_mp4_with_sound(self):
        self.launch("mp4mux", "name=m", "!", "filesink", "location=av.mp4", "videotestsrc", "num-buffers=8", "!",
                    "video/x-raw,width=112,height=84,framerate=10/1", "!", "x264enc", "!", "m.", "audiotestsrc",
                    "num-buffers=40", "!", "avenc_aac", "!", "m.")
        self.works("av.mp4", "out")
        self.assertEqual(self.summary()["frames_out"], 8)

    def test_a_folder_of_mixed_images(self):
        self.make_image("in/f2.png", WIDTH, HEIGHT, "pngenc")
        self.make_image("in/f10.jpg", 60, 90, "jpegenc")
        self.make_image("in/f11.webp", 224, 168, "webpenc")
        self.make_image("in/f12.bmp", 51, 37, "avenc_bmp")
        self.make_image("in/f13.tif", 100, 40, "avenc_tiff")
        self.works("in", "out")
        self.assertEqual(self.summary()["frames_in"], 5)
        self.assertEqual([one["pts"] for one in self.objects()[1:]], [0, 1, 2, 3, 4])
        widths = [one["intrinsics"]["width"] for one in self.objects()[1:]]
        self.assertEqual(widths, [WIDTH, 60, 224, 51, 100])
        self.assertEqual(len(self.coloured()), 5)
        depth = self.depth()
        self.assertEqual(len(depth), 5)
        # No depth (0) where the narrow second picture leaves the recording empty, depth everywhere in the first.
        row = 56 * 2
        self.assertEqual(depth[1][21 * row:21 * row + 8], bytes(8))
        self.assertNotEqual(depth[1][21 * row + 56:21 * row + 58], bytes(2))
        self.assertNotIn(b"\0\0", [depth[0][at:at + 2] for at in range(0, len(depth[0]), 2)])

    def test_one_image_of_odd_size(self):
        self.works(self.make_image("odd.png", 62, 47, "pngenc"), "out")
        self.assertEqual(self.summary()["frames_out"], 1)
        self.assertEqual(len(self.coloured(width=124, height=48)), 1)

    def test_a_second_run_replaces_the_first(self):
        video = self.make_video()
        self.works(video, "out")
        self.works("--max-frames", 2, video, "out")
        self.assertEqual(self.summary()["frames_out"], 2)
        self.assertEqual(len(self.trajectory()), 2)

    def test_a_model_without_poses_still_gives_depth(self):
        done = self.works(self.make_video(), "out", model="stub:outputs=depth+confidence,name=da3mono-large")
        self.assertIn("da3mono-large computes none", done.stderr)
        self.assertEqual(self.summary()["frames_out"], FRAMES)
        self.assertEqual([one["pose"] for one in self.objects()[1:]], [None] * FRAMES)
        self.assertEqual(self.trajectory(), [])

    def test_without_a_model_it_says_which_one_it_takes(self):
        done = self.run_demo("--max-frames", 1, self.make_video(), "out", model=None)
        self.assertIn("da3-demo is the small one that ships", done.stderr)
        # The stub does not have it.
        self.assertEqual(done.returncode, 1)
        self.assertIn("Model 'da3-demo' is not there", done.stderr)

    def test_a_rendered_clip_is_compared_with_its_truth(self):
        done = self.works("--render", "--max-frames", 8, "out")
        summary = self.summary()
        self.assertEqual((summary["frames_in"], summary["frames_out"], summary["views"]), (8, 8, 4))
        self.assertIsNone(summary["input"])
        # The stub's poses and depth are none that could be right, but they can be compared.
        for name in ("abs_rel", "delta1", "rotation_error_deg", "translation_direction_error_deg", "fov_error",
                     "ate_relative"):
            self.assertIsInstance(summary[name], float, name)
        self.assertGreater(summary["abs_rel"], 0.05)
        self.assertIn("AbsRel", done.stdout)
        lines = [json.loads(line) for line in (self.dir / "out/scores.jsonl").read_text().splitlines()]
        self.assertEqual([line["type"] for line in lines], ["frame"] * 8 + ["summary"])
        self.assertAlmostEqual(lines[-1]["abs_rel"], summary["abs_rel"], 4)
        # The picture, its depth, and the true depth, which is no copy of it.
        width, height = 3 * 504, 392
        first = self.raw_frames("out/depth.mp4", "format=RGB", width * height * 3)[0]
        row = [first[y * width * 3:(y + 1) * width * 3] for y in range(height)]
        parts = [b"".join(line[part * 504 * 3:(part + 1) * 504 * 3] for line in row) for part in range(3)]
        for a, b in ((0, 1), (1, 2), (0, 2)):
            difference = sum(abs(x - y) for x, y in zip(parts[a][::7], parts[b][::7])) / len(parts[a][::7])
            self.assertGreater(difference, 10, (a, b))

    def test_what_a_model_does_not_tell_has_no_score(self):
        self.works("--render", "--max-frames", 4, "out", model="stub:outputs=depth")
        summary = self.summary()
        self.assertIsInstance(summary["abs_rel"], float)
        for name in ("rotation_error_deg", "translation_direction_error_deg", "fov_error", "ate", "ate_relative"):
            self.assertIsNone(summary[name], name)

    def test_an_input_has_no_scores(self):
        self.works("--max-frames", 2, self.make_video(), "out")
        self.assertNotIn("abs_rel", self.summary())
        self.assertFalse((self.dir / "out/scores.jsonl").exists())

    def test_remarks_of_the_engine_are_shown_once(self):
        done = self.works(self.make_video(), "out", model="stub:synthetic=1")
        self.assertEqual(done.stderr.count("da3-demo: warning:"), 1, done.stderr)
        self.assertEqual(len(self.summary()["warnings"]), 1)

    def test_help(self):
        self.assertIn("INPUT", self.works("--help").stdout)

    # ---- what goes wrong

    def test_text_is_no_video(self):
        (self.dir / "text.mp4").write_text("this is no video\n" * 100)
        self.fails(r'The input "text.mp4" is not a video', "text.mp4", "out")
        self.assertEqual(self.summary()["frames_in"], 0)
        self.assertEqual(self.summary()["files"], ["summary.json"])
        self.assertIn("is not a video", self.summary()["error"])

    def test_sound_is_no_video(self):
        self.launch("audiotestsrc", "num-buffers=20", "!", "wavenc", "!", "filesink", "location=a.wav")
        self.fails("no video stream", "a.wav", "out")

    def test_inputs_that_are_not_there(self):
        (self.dir / "empty.mp4").touch()
        (self.dir / "folder").mkdir()
        self.fails("does not exist", "no.mp4", "out")
        self.fails("is empty", "empty.mp4", "out")
        self.fails("holds no images", "folder", "out")
        self.assertFalse((self.dir / "out").exists())

    def test_a_command_line_that_makes_no_sense(self):
        self.fails("INPUT and OUTDIR are needed", "in.mp4", status=2)
        self.fails("--views is a whole number", "--views", "many", "in.mp4", "out", status=2)

    def test_no_index_in_an_mp4(self):
        self.make_video("whole.mp4", frames=40, muxer="mp4mux")
        whole = (self.dir / "whole.mp4").read_bytes()
        (self.dir / "cut.mp4").write_bytes(whole[:len(whole) // 2])
        # More than once: decodebin loses the error when it comes early.
        for _ in range(5):
            self.fails('Cannot read "cut.mp4" as a video', "cut.mp4", "out")

    def test_a_video_that_is_cut_off_gives_its_frames(self):
        self.make_video("whole.mkv", frames=60)
        whole = (self.dir / "whole.mkv").read_bytes()
        (self.dir / "cut.mkv").write_bytes(whole[:len(whole) // 2])
        self.run_demo("cut.mkv", "out")
        summary = self.summary()
        self.assertGreater(summary["frames_in"], 5)
        self.assertEqual(summary["frames_in"], summary["frames_out"])
        self.assertEqual(len(self.depth()), summary["frames_in"])

    def test_a_broken_image_is_named_and_the_ones_before_are_kept(self):
        for name in ("in/1.png", "in/3.png"):
            self.make_image(name, WIDTH, HEIGHT, "pngenc")
        (self.dir / "in/2.png").write_bytes((self.dir / "in/1.png").read_bytes()[:200])
        self.fails(r'Cannot decode the image "in/2.png"', "in", "out")
        self.assertEqual(self.summary()["frames_out"], 1)
        self.assertEqual(len(self.coloured()), 1)
        self.assertEqual(len(self.depth()), 1)

    def test_a_picture_too_small(self):
        self.fails("1x1", self.make_image("one.png", 1, 1, "pngenc"), "out")
        self.assertEqual(self.summary()["files"], ["summary.json"])

    def test_models_that_do_not_open(self):
        video = self.make_video()
        for model in ("stub:missing", "stub:unreadable", "stub:wrong-type"):
            self.fails("stub", video, "out", model=model)
            self.assertEqual(self.summary()["files"], ["summary.json"])
        self.fails("cuda", "--device", "cuda:7", video, "out")

    def test_without_the_engine(self):
        self.env["DA3_ENGINE_PATH"] = str(self.dir / "nothing.so")
        self.fails("nothing.so", self.make_video(), "out")

    def test_inference_that_fails_keeps_the_frames_before(self):
        for model in ("stub:fail-at=8,batch=1", "stub:oom-at=8,batch=1"):
            self.fails("stub", self.make_video(), "out", model=model)
            frames = self.summary()["frames_out"]
            self.assertEqual(frames, 7)
            self.assertEqual([len(self.coloured()), len(self.depth()), len(self.trajectory())], [frames] * 3)
            self.assertIn("error", self.summary())

    def test_the_input_is_never_overwritten(self):
        self.make_video("depth.mp4", muxer="mp4mux")
        before = (self.dir / "depth.mp4").read_bytes()
        self.fails("would be overwritten", "depth.mp4", ".")
        self.assertEqual((self.dir / "depth.mp4").read_bytes(), before)

    def test_an_outdir_that_is_a_file(self):
        (self.dir / "file").touch()
        self.fails("is not a folder", self.make_video(), "file")

    def test_an_output_that_cannot_be_written(self):
        (self.dir / "out/depth.mkv/full").mkdir(parents=True)
        self.fails("depth.mkv", self.make_video(), "out")

    def interrupted(self, signals):
        """Starts a slow run and sends the signals once frames are being written; each is answered by a line on stderr."""
        shutil.rmtree(self.dir / "out", ignore_errors=True)
        process = subprocess.Popen(self.command(self.make_video(frames=200), "out", model="stub:delay-ms=50,batch=1"),
                                   cwd=self.dir, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        # The first frame has gone all the way when its line is in the file.
        while not ((path := self.dir / "out/poses.tum").exists() and len(self.trajectory()) > 0):
            self.assertIsNone(process.poll(), path)
            os.sched_yield()
        for number in signals:
            process.send_signal(number)
            with selectors.DefaultSelector() as selector:
                selector.register(process.stderr, selectors.EVENT_READ)
                self.assertTrue(selector.select(timeout=30), "no answer to the signal")
            process.stderr.readline()
        _, rest = process.communicate(timeout=60)
        return process.returncode, rest

    def test_interrupt_completes_the_files(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            status, _ = self.interrupted([number])
            self.assertEqual(status, 130)
            summary = self.summary()
            self.assertTrue(summary["interrupted"])
            self.assertNotIn("error", summary)
            frames = summary["frames_out"]
            self.assertTrue(0 < frames < 200)
            self.assertEqual([len(self.coloured()), len(self.depth()), len(self.trajectory())], [frames] * 3)

    def with_small_disk(self, size, work):
        disk = self.dir / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(disk)], capture_output=True,
                          check=False).returncode != 0:
            self.skipTest("tmpfs cannot be mounted here")
        try:
            work()
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    def test_a_disk_of_64_kib(self):
        def work():
            self.fails("The disk is full", self.make_video(frames=200), "disk/out")
            # Whole lines only, from the first frame on without a gap. Which of the two files the disk had room for
            # last is chance.
            header, *frames = self.objects("disk/out")
            self.assertEqual(header["type"], "header")
            self.assertEqual([frame["frame"] for frame in frames], list(range(len(frames))))
            times = [float(line[0]) for line in self.trajectory("disk/out")]
            for line in self.trajectory("disk/out"):
                self.assertEqual(len(line), 8)
            self.assertGreater(min(len(frames), len(times)), 0)
            shared = min(len(frames), len(times))
            for frame, time in zip(frames[:shared], times[:shared]):
                self.assertAlmostEqual(frame["pts"], time, places=5)

        self.with_small_disk("64k", work)

    def test_a_disk_that_fills_up_late(self):
        def work():
            self.fails("The disk is full", self.make_video(frames=600), "disk/out")
            summary = self.summary("disk/out")
            self.assertIn("The disk is full", summary["error"])
            self.assertTrue(0 < summary["frames_out"] < 600, summary)
            # Complete, although the disk was full: there was a reserve. The file that did not fit lacks its last frames.
            frames, counted = len(self.coloured("disk/out")), summary["frames"]["depth.mp4"]
            if "depth.mp4" in summary["error"]:
                self.assertTrue(counted - 32 <= frames <= counted, (frames, counted))
            else:
                self.assertEqual(frames, counted)
            self.assertEqual(len(self.trajectory("disk/out")), summary["frames"]["poses.tum"])

        self.with_small_disk("1700k", work)


def main():
    result = unittest.main(exit=False, verbosity=1).result
    failed = len(result.failures) + len(result.errors)
    skipped = len(result.skipped)
    print(f"{result.testsRun - failed - skipped} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
