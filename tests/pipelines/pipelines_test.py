#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The recipes of pipelines/ run as they stand and write what they say. The stub engine infers, so no LibTorch is needed,
but for the tests of the model that ships."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(os.environ.get("DA3_SOURCE_ROOT") or Path(__file__).resolve().parents[2])
BUILD = Path(os.environ.get("DA3_BUILD_ROOT", ""))
ENGINE = BUILD / "lib/engine/libda3engine.so"
SHIPPED = ROOT / "models/da3-demo/model.safetensors"
SIGNATURE_PNG = b"\x89PNG"
AWKWARD = """5" clip #1 50%'s \\ x"""


class Recipe(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="da3-pipelines-"))
        self.addCleanup(shutil.rmtree, self.dir)

    def run_recipe(self, name, *arguments, **variables):
        environment = dict(os.environ, DA3_ENGINE_PATH=os.environ["DA3_STUB_ENGINE"], DA3_MODEL="stub:",
                           DA3_PROCESS_RES="56", NUM_BUFFERS="4", SINK="fakesink")
        environment.update(variables)
        environment = {key: value for key, value in environment.items() if value is not None}
        return subprocess.run([str(ROOT / "pipelines" / name), *arguments], cwd=self.dir, env=environment, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)

    def works(self, name, *arguments, **variables):
        done = self.run_recipe(name, *arguments, **variables)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done

    def recipes(self):
        names = sorted(recipe.name for recipe in (ROOT / "pipelines").glob("*.sh") if recipe.name != "common.sh")
        self.assertEqual(len(names), 5)
        return names

    def fails(self, words, name, *arguments, **variables):
        done = self.run_recipe(name, *arguments, **variables)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        self.assertIn(words, done.stdout + done.stderr)

    def launch(self, *words):
        subprocess.run(["gst-launch-1.0", "-q", "-e", *words], cwd=self.dir, check=True, timeout=60,
                       stdin=subprocess.DEVNULL, capture_output=True)

    def make_video(self, frames=6, rate=10):
        self.launch("videotestsrc", f"num-buffers={frames}", "!",
                    f"video/x-raw,width=112,height=84,framerate={rate}/1", "!", "x264enc", "!", "matroskamux", "!",
                    "filesink", "location=in.mkv")
        return "in.mkv"

    def make_images(self):
        self.launch("videotestsrc", "num-buffers=4", "!", "video/x-raw,width=112,height=84,framerate=10/1", "!",
                    "pngenc", "!", "multifilesink", "location=in-%04d.png")

    def poses(self, name):
        return [line for line in (self.dir / name).read_text().splitlines() if not line.startswith("#")]

    def worlds(self, name):
        return [line for line in (self.dir / name).read_text().splitlines() if line.startswith("# window:")]

    def frames(self, name, media):
        """How many frames of this media type are in a Matroska file, and the caps they have."""
        done = subprocess.run(["gst-launch-1.0", "-v", "filesrc", f"location={name}", "!", "matroskademux", "!", media, "!",
                               "fakesink", "name=out", "silent=false", "sync=false"], cwd=self.dir, check=True, text=True,
                              timeout=60, stdin=subprocess.DEVNULL, capture_output=True)
        caps = [line for line in done.stdout.splitlines() if "GstFakeSink:out.GstPad:sink: caps" in line]
        return done.stdout.count("GstFakeSink:out: last-message = chain"), caps[-1]

    def needs_shipped_model(self):
        if not ENGINE.exists():
            self.skipTest("built without the engine")
        if not SHIPPED.exists():
            self.skipTest("models/da3-demo/model.safetensors is not in this checkout")

    def test_live_camera_has_a_stand_in(self):
        done = self.works("live-camera.sh", "/dev/no-such-camera")
        self.assertIn("stands in", done.stderr)

    def test_video_file(self):
        self.works("video-file.sh", self.make_video())
        self.assertEqual(len(self.poses("poses.tum")), 4)
        self.assertGreater((self.dir / "depth.mp4").stat().st_size, 500)

    def test_video_file_takes_every_frame(self):
        self.works("video-file.sh", self.make_video(), "d.mp4", "p.tum", NUM_BUFFERS="-1")
        self.assertEqual(len(self.poses("p.tum")), 6)

    def test_video_file_stops_after_exactly_so_many_frames(self):
        # A decoder with several threads has more frames ready when the limit is reached; at two frames a second a
        # queue, which holds a second, is full and has one more waiting in front of it.
        video = self.make_video(frames=40, rate=2)
        for number in (1, 3, 8, 25):
            self.works("video-file.sh", video, "d.mp4", "p.tum", NUM_BUFFERS=str(number))
            self.assertEqual(len(self.poses("p.tum")), number)

    def test_video_file_puts_four_frames_into_one_world(self):
        video = self.make_video()
        self.works("video-file.sh", video, "d.mp4", "p.tum", NUM_BUFFERS="-1")
        self.assertEqual(len(self.worlds("p.tum")), 2)
        self.works("video-file.sh", video, "d.mp4", "p.tum", NUM_BUFFERS="-1", VIEWS="1")
        self.assertEqual(len(self.worlds("p.tum")), 0)

    def test_names_with_blanks_quotes_and_signs(self):
        (self.dir / self.make_video()).rename(self.dir / f"{AWKWARD}.mkv")
        for source in (f"{AWKWARD}.mkv", str(self.dir / f"{AWKWARD}.mkv")):
            self.works("video-file.sh", source, f"{AWKWARD}.mp4", f"{AWKWARD}.tum")
            self.assertEqual(len(self.poses(f"{AWKWARD}.tum")), 4)
            self.assertGreater((self.dir / f"{AWKWARD}.mp4").stat().st_size, 500)
            (self.dir / f"{AWKWARD}.tum").unlink()
            (self.dir / f"{AWKWARD}.mp4").unlink()
            self.works("lossless-recording.sh", source, f"{AWKWARD}, too.mkv")
            self.assertIn(b"V_FFV1", (self.dir / f"{AWKWARD}, too.mkv").read_bytes())
            (self.dir / f"{AWKWARD}, too.mkv").unlink()

    def test_image_sequence_with_blanks_and_quotes(self):
        self.make_images()
        folder = self.dir / AWKWARD.replace("%", "")  # a sign of the pattern
        folder.mkdir()
        for image in self.dir.glob("in-*.png"):
            image.rename(folder / image.name)
        self.works("image-sequence.sh", f"{folder.name}/in-%04d.png", f"{folder.name}/out %d.png")
        self.assertEqual(len(list(folder.glob("out *.png"))), 4)

    def test_image_sequence(self):
        self.make_images()
        self.works("image-sequence.sh", "in-%04d.png")
        depth = sorted(self.dir.glob("depth-*.png"))
        self.assertEqual(len(depth), 4)
        # 16 bits a sample, grey, at the size of the image.
        header = depth[0].read_bytes()[:26]
        self.assertEqual(header[:4], SIGNATURE_PNG)
        self.assertEqual(header[16:26], bytes([0, 0, 0, 112, 0, 0, 0, 84, 16, 0]))

    def test_image_sequence_in_windows(self):
        self.make_images()
        self.works("image-sequence.sh", "in-%04d.png", VIEWS="3")
        self.assertEqual(len(list(self.dir.glob("depth-*.png"))), 4)

    def test_lossless_recording(self):
        self.works("lossless-recording.sh", self.make_video())
        recording = (self.dir / "recording.mkv").read_bytes()
        self.assertIn(b"V_FFV1", recording)
        self.assertIn(b"V_MPEG4/ISO/AVC", recording)
        self.assertIn(b"depth-unit", recording)  # the comment tag

    def test_lossless_recording_stops_after_exactly_so_many_frames(self):
        self.works("lossless-recording.sh", self.make_video(frames=40, rate=2), NUM_BUFFERS="25")
        self.assertEqual(self.frames("recording.mkv", "video/x-ffv")[0], 25)
        self.assertEqual(self.frames("recording.mkv", "video/x-h264")[0], 25)

    def test_the_model_that_ships_at_its_own_size_is_the_default(self):
        self.needs_shipped_model()
        done = self.works("lossless-recording.sh", self.make_video(), DA3_MODEL=None, DA3_PROCESS_RES=None,
                          DA3_MODEL_PATH=None, DA3_ENGINE_PATH=str(ENGINE))
        self.assertIn("da3-demo", done.stdout)
        frames, caps = self.frames("recording.mkv", "video/x-ffv")
        self.assertEqual(frames, 4)
        self.assertIn("width=(int)196,", caps)

    def test_every_recipe_has_the_same_defaults(self):
        # In place of gst-launch-1.0 a program that says what it was called with.
        program = self.dir / "bin" / "gst-launch-1.0"
        program.parent.mkdir()
        program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        program.chmod(0o755)
        (self.dir / "in").write_text("anything")
        path = f"{program.parent}:{os.environ['PATH']}"
        for recipe in self.recipes():
            words = self.works(recipe, "in", DA3_MODEL=None, DA3_PROCESS_RES=None, PATH=path).stdout.splitlines()
            self.assertIn("model=da3-demo", words, recipe)
            self.assertIn("process-res=0", words, recipe)
            words = self.works(recipe, "in", DA3_MODEL="some/where", DA3_PROCESS_RES="28", PATH=path).stdout.splitlines()
            self.assertIn("model=some/where", words, recipe)
            self.assertIn("process-res=28", words, recipe)

    def test_stream_udp(self):
        self.works("stream-udp.sh", "127.0.0.1", "50041")

    def test_application(self):
        reader = BUILD / "pipelines" / "depth_reader"
        if not reader.exists():
            self.skipTest("built without gstreamer-app")
        environment = dict(os.environ, DA3_ENGINE_PATH=os.environ["DA3_STUB_ENGINE"])
        done = subprocess.run([str(reader), "videotestsrc num-buffers=3 ! da3infer model=stub: process-res=56"],
                              env=environment, text=True, capture_output=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len([line for line in done.stdout.splitlines() if "depth in the middle" in line]), 3)

    def test_application_reports_errors(self):
        reader = BUILD / "pipelines" / "depth_reader"
        if not reader.exists():
            self.skipTest("built without gstreamer-app")
        environment = dict(os.environ, DA3_ENGINE_PATH=os.environ["DA3_STUB_ENGINE"])
        done = subprocess.run([str(reader), "videotestsrc num-buffers=3 ! da3infer model=nonesuch"], env=environment,
                              text=True, capture_output=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("'nonesuch' is not there", done.stderr)

    def test_no_argument(self):
        for recipe in ("video-file.sh", "image-sequence.sh", "lossless-recording.sh"):
            self.fails("--help", recipe)

    def test_missing_input(self):
        for recipe in ("video-file.sh", "lossless-recording.sh"):
            self.fails("there is no file", recipe, "no-such.mp4")
        self.fails("there is no image", "image-sequence.sh", "no-such-%d.png")

    def test_bad_model(self):
        self.fails("stub:missing", "video-file.sh", self.make_video(), DA3_MODEL="stub:missing")

    def test_input_that_is_no_video(self):
        (self.dir / "text.mp4").write_text("this is no video\n" * 100)
        self.fails("ERROR", "video-file.sh", "text.mp4")

    def test_without_the_plugin(self):
        self.fails("does not find da3infer", "live-camera.sh", GST_PLUGIN_PATH=str(self.dir),
                   GST_REGISTRY=str(self.dir / "registry.bin"))

    def test_help(self):
        for recipe in self.recipes():
            self.assertIn(recipe, self.works(recipe, "--help").stdout)


def main():
    result = unittest.main(exit=False, verbosity=1).result
    failed = len(result.failures) + len(result.errors)
    skipped = len(result.skipped)
    print(f"{result.testsRun - failed - skipped} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
