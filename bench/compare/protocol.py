# SPDX-License-Identifier: MIT
"""The line protocol of da3-bench: requests as JSON on standard input, answers as JSON on standard output.

Everything else that libraries print goes to standard error, where da3-bench looks for the reason of a failure.
"""

import json
import os
import struct
import sys
import time

# Libraries print what they like; only answers may reach the pipe.
_answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)


def answer(**values):
    _answers.write(json.dumps(values) + "\n")
    _answers.flush()


def milliseconds(function):
    start = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - start)


def reset_peak_memory():
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        pass


def peak_memory_mb():
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0.0


def write_result(path, depth, extrinsics=None, intrinsics=None):
    """The file of accuracy.h: three counts of 64 bits, then floats."""
    import numpy as np

    parts = [np.zeros(0) if p is None else np.asarray(p) for p in (depth, extrinsics, intrinsics)]
    parts = [np.ascontiguousarray(p, dtype=np.float32).ravel() for p in parts]
    with open(path, "wb") as file:
        file.write(struct.pack("=3Q", *(p.size for p in parts)))
        for part in parts:
            file.write(part.tobytes())


def serve(run, result):
    """Answers requests until there are none. run() does a pass; result() gives depth, extrinsics, intrinsics.

    Memory is the peak since the first request: the model has been loaded by then.
    """
    reset_peak_memory()
    for line in sys.stdin:
        request = json.loads(line)
        what = request.get("do")
        try:
            if what == "run":
                answer(ms=milliseconds(run))
            elif what == "memory":
                answer(peak_rss_mb=peak_memory_mb())
            elif what == "result":
                write_result(request["path"], *result())
                answer(done=True)
            else:
                answer(error=f"unknown request '{what}'")
        except Exception as problem:  # da3-bench reports it and goes on without this peer
            answer(error=f"{type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}")
