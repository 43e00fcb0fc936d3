# SPDX-License-Identifier: MIT
"""ONNX Runtime or OpenVINO as a peer of da3-bench, on a file of export_onnx.py; timed from 8-bit pixels to depth and cameras.
Needs no PyTorch.
"""

import argparse

import protocol

import numpy as np

MEAN = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 1, 3, 1, 1)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 1, 3, 1, 1)


def onnxruntime_session(a):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = a.threads
    providers = ["CUDAExecutionProvider"] if a.device.startswith("cuda") else ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(a.onnx, options, providers=providers)
    if session.get_providers()[0] != providers[0]:
        raise RuntimeError(f"ONNX Runtime has no {providers[0]}")
    return (lambda image: session.run(None, {"image": image})), "ONNX Runtime " + onnxruntime.__version__


def openvino_session(a):
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[a.precision], "PERFORMANCE_HINT": "LATENCY"}
    if a.threads > 0:
        settings["INFERENCE_NUM_THREADS"] = a.threads
    compiled = core.compile_model(a.onnx, "CPU", settings)
    request = compiled.create_infer_request()

    def run(image):
        request.infer({0: image})
        return [np.array(request.get_output_tensor(i).data) for i in range(len(compiled.outputs))]

    return run, "OpenVINO " + openvino.__version__


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", required=True, choices=("onnxruntime", "openvino"))
    parser.add_argument("--onnx", required=True)
    parser.add_argument("--pictures", required=True)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--device", default="cpu")
    for name in ("width", "height", "batch", "views", "threads"):
        parser.add_argument("--" + name, type=int, required=True)
    a = parser.parse_args()
    pictures = np.fromfile(a.pictures, np.uint8).reshape(a.batch, a.views, a.height, a.width, 3)
    opened = {}
    open_session = onnxruntime_session if a.engine == "onnxruntime" else openvino_session
    load_ms = protocol.milliseconds(lambda: opened.update(session=open_session(a)))
    session, version = opened["session"]

    def forward():
        image = pictures.transpose(0, 1, 4, 2, 3).astype(np.float32) / np.float32(255)
        return session(np.ascontiguousarray((image - MEAN) / DEVIATION))

    def result():
        outputs = list(forward()) + [None, None]
        extrinsics = outputs[1][..., :3, :] if outputs[1] is not None else None
        return outputs[0], extrinsics, outputs[2]

    protocol.answer(ready=True, load_ms=load_ms, precision=a.precision, threads=a.threads, version=version)
    protocol.serve(forward, result)


try:
    main()
except Exception as problem:  # before it is ready: why it never will be
    protocol.answer(error=f"{type(problem).__name__}: {problem}".splitlines()[0])
