#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""scripts/find-libtorch.py on fake trees."""

import os

from support import OLD_ABI, SCRIPTS, Case, fake_libtorch, main, write


class FindLibtorch(Case):
    def setUp(self):
        super().setUp()
        self.option = self.dir / "named"
        self.environment = self.dir / "from environment"
        self.python = self.dir / "python" / "torch"
        self.venv = self.dir / "root" / ".venv" / "lib" / "python3.11" / "site-packages" / "torch"
        self.system = self.dir / "system"
        self.env["PYTHONPATH"] = str(self.dir / "python")

    def find(self, *arguments, **env):
        return self.run_command(SCRIPTS / "find-libtorch.py", "--root", self.dir / "root", "--system-prefix", self.system,
                                *arguments, env=env)

    def found(self, *arguments, **env):
        done = self.find(*arguments, **env)
        self.assertEqual(done.returncode, 0, done.stderr)
        answer = {}
        for line in done.stdout.splitlines():
            key, value = line.split("=", 1)
            answer.setdefault(key, []).append(value)
        return answer

    def refused(self, status, *words, arguments=(), **env):
        done = self.find(*arguments, **env)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        self.assertEqual(done.stdout, "")
        for word in words:
            self.assertIn(str(word), done.stderr)
        self.assertNotIn("Traceback", done.stderr)

    def everywhere(self):
        fake_libtorch(self.option, "2.5.0")
        fake_libtorch(self.environment, "2.4.0")
        fake_libtorch(self.python, "2.3.0", package=True)
        fake_libtorch(self.venv, "2.2.0", package=True)
        fake_libtorch(self.system, "1.13.0", lib="lib/x86_64-linux-gnu")

    # What is found.

    def test_option_comes_first(self):
        self.everywhere()
        answer = self.found("--libtorch", self.option, LIBTORCH=str(self.environment))
        self.assertEqual(answer["source"], ["option"])
        self.assertEqual(answer["prefix"], [str(self.option)])
        self.assertEqual(answer["version"], ["2.5.0"])

    def test_environment_comes_second(self):
        self.everywhere()
        self.assertEqual(self.found(LIBTORCH=str(self.environment))["source"], ["environment"])

    def test_importable_torch_comes_third_and_is_not_imported(self):
        self.everywhere()
        answer = self.found()
        self.assertEqual(answer["source"], ["python3"])
        self.assertEqual(answer["version"], ["2.3.0"])

    def test_venv_comes_fourth(self):
        self.everywhere()
        self.assertEqual(self.found(PYTHONPATH="")["source"], ["venv"])

    def test_system_comes_last_and_its_library_folder_is_found(self):
        fake_libtorch(self.system, "1.13.0", lib="lib/x86_64-linux-gnu")
        answer = self.found()
        self.assertEqual(answer["source"], ["system"])
        self.assertEqual(answer["libdir"], [str(self.system / "lib/x86_64-linux-gnu")])
        self.assertEqual(answer["include"], [str(self.system / "include"),
                                             str(self.system / "include/torch/csrc/api/include")])

    def test_setting_narrows_the_search(self):
        self.everywhere()
        self.assertEqual(self.found(DA3_LIBTORCH="debian")["source"], ["system"])
        self.assertEqual(self.found(DA3_LIBTORCH="pip")["source"], ["python3"])
        self.assertEqual(self.found(DA3_LIBTORCH="none", LIBTORCH=str(self.environment))["source"], ["environment"])

    def test_a_virtual_environment_can_be_named(self):
        fake_libtorch(self.venv, package=True)
        answer = self.found("--libtorch", self.dir / "root" / ".venv")
        self.assertEqual(answer["prefix"], [str(self.venv)])

    def test_a_relative_option_counts_from_the_project_root(self):
        fake_libtorch(self.dir / "root" / "torch-folder")
        self.assertEqual(self.found("--libtorch", "torch-folder")["prefix"], [str(self.dir / "root" / "torch-folder")])

    def test_cuda_and_its_headers(self):
        fake_libtorch(self.python, package=True, cuda=True)
        headers = self.dir / "python" / "nvidia" / "cu13" / "include"
        write(headers / "cuda_runtime_api.h")
        write(headers / "crt" / "host_config.h")
        answer = self.found()
        self.assertEqual(answer["cuda"], ["yes"])
        self.assertEqual(answer["cuda_include"], [str(headers)])

    def test_a_whole_set_of_cuda_headers_comes_before_one_without_a_part(self):
        fake_libtorch(self.python, package=True, cuda=True)
        write(self.dir / "python" / "nvidia" / "cu13" / "include" / "cuda_runtime_api.h")
        whole = self.dir / "toolkit" / "include"
        write(whole / "cuda_runtime_api.h")
        write(whole / "crt" / "host_config.h")
        compiler = write(self.dir / "toolkit" / "bin" / "nvcc", "", True)
        answer = self.found(PATH=f"{compiler.parent}:{os.environ['PATH']}")
        self.assertEqual(answer["cuda_include"], [str(whole)])

    # What is refused.

    def test_nothing_anywhere(self):
        self.refused(1, "scripts/setup.sh")

    def test_setting_none_finds_nothing(self):
        self.everywhere()
        self.refused(1, DA3_LIBTORCH="none")

    def test_unknown_setting(self):
        self.everywhere()
        self.refused(2, "DA3_LIBTORCH", "conda", DA3_LIBTORCH="conda")

    def test_missing_option_folder_is_not_replaced_by_another(self):
        self.everywhere()
        self.refused(2, "no such folder", self.dir / "nowhere", arguments=["--libtorch", self.dir / "nowhere"])

    def test_missing_environment_folder_is_not_replaced_by_another(self):
        self.everywhere()
        self.refused(2, "$LIBTORCH", "nowhere", LIBTORCH=str(self.dir / "nowhere"))

    def test_folder_without_headers(self):
        (self.dir / "empty").mkdir()
        self.refused(2, "include/ATen/ATen.h", arguments=["--libtorch", self.dir / "empty"])

    def test_folder_without_library(self):
        fake_libtorch(self.option, leave_out=["lib/libtorch_cpu.so"])
        self.refused(2, "libtorch_cpu.so", arguments=["--libtorch", self.option])

    def test_folder_without_c10(self):
        fake_libtorch(self.option, leave_out=["lib/libc10.so"])
        self.refused(2, "libc10.so", arguments=["--libtorch", self.option])

    def test_folder_without_version(self):
        fake_libtorch(self.option, leave_out=["include/torch/csrc/api/include/torch/version.h"])
        self.refused(2, "no LibTorch version", arguments=["--libtorch", self.option])

    def test_too_old(self):
        fake_libtorch(self.option, "1.12.1")
        self.refused(2, "1.12.1", "1.13", arguments=["--libtorch", self.option])

    def test_old_abi(self):
        fake_libtorch(self.option, abi=OLD_ABI)
        self.refused(2, "cxx11-abi", arguments=["--libtorch", self.option])

    def test_unusable_torch_of_python_is_passed_over_with_a_reason(self):
        fake_libtorch(self.python, "2.3.0", package=True, abi=OLD_ABI)
        fake_libtorch(self.system)
        done = self.find()
        self.assertIn("source=system", done.stdout)
        self.assertIn("skipped (python3)", done.stderr)

    def test_folder_called_torch_that_is_no_package(self):
        fake_libtorch(self.python)
        fake_libtorch(self.system)
        self.assertEqual(self.found()["source"], ["system"])


if __name__ == "__main__":
    main()
