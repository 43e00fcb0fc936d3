#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`meson devenv` opens a shell in which the elements and the programs are found, beside what was found before."""

import os
import shutil
from pathlib import Path

from support import Case, main

BUILD = os.environ.get("DA3_BUILD_ROOT", "")


class DevEnv(Case):
    def setUp(self):
        super().setUp()
        if not shutil.which("meson"):
            self.skipTest("no meson on PATH")
        if not (Path(BUILD) / "plugins").is_dir():
            self.skipTest("built without the elements")
        # As in a fresh shell: nothing of the surrounding test's environment.
        for name in ("GST_PLUGIN_PATH", "GST_PLUGIN_SYSTEM_PATH", "DA3_ENGINE_PATH", "LD_LIBRARY_PATH"):
            self.env.pop(name, None)
        self.env["GST_REGISTRY"] = str(self.dir / "registry.bin")

    def inside(self, *command):
        return self.run_command("meson", "devenv", "-C", BUILD, *command)

    def test_element_is_found(self):
        done = self.inside("gst-inspect-1.0", "da3infer")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("Depth Anything 3", done.stdout)

    def test_element_is_not_found_outside(self):
        done = self.run_command("gst-inspect-1.0", "da3infer", env={"GST_PLUGIN_PATH": str(self.dir)})
        self.assertNotEqual(done.returncode, 0, "an installed copy makes this suite meaningless")

    def test_program_is_found(self):
        if not (Path(BUILD) / "tools/da3-demo").exists():
            self.skipTest("built without the tools")
        done = self.inside("da3-demo", "--help")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_old_path_is_kept(self):
        self.assertEqual(self.inside("sh", "-c", "exit 7").returncode, 7)


if __name__ == "__main__":
    main()
