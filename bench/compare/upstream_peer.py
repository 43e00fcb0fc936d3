# SPDX-License-Identifier: MIT
"""Upstream's PyTorch network as a peer of da3-bench: the same weights, the same pictures, timed from 8-bit pixels to depth and
cameras in host memory.

Modes: eager (float32), autocast (what upstream's API does: bfloat16 where CUDA has it, else float16, on any device), bf16
(autocast to bfloat16), compile and compile-bf16 (torch.compile of the first and the third), compile-parts and
compile-parts-bf16 (of each block of the backbone and of the head by itself: from PyTorch 2.5 equal
blocks are compiled once, which a large network on a CPU needs to be done in minutes).
"""

import argparse

import protocol


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--pictures", required=True)
    parser.add_argument("--mode", required=True, choices=("eager", "autocast", "bf16", "compile", "compile-bf16",
                                                          "compile-parts", "compile-parts-bf16"))
    parser.add_argument("--device", default="cpu")
    for name in ("width", "height", "batch", "views", "threads"):
        parser.add_argument("--" + name, type=int, required=True)
    return parser.parse_args()


def main():
    a = arguments()
    import contextlib

    import torch

    import upstream_model

    if a.threads > 0:
        torch.set_num_threads(a.threads)
    device = torch.device(a.device)
    loaded = {}
    load_ms = protocol.milliseconds(
        lambda: loaded.update(network=upstream_model.load(a.upstream, a.folder).to(device)))
    network = loaded["network"]
    if a.mode.startswith("compile-parts"):
        for one in [network.da3, network.da3_metric] if hasattr(network, "da3") else [network]:
            for part in [*one.backbone.pretrained.blocks, one.head]:
                part.compile()
    elif a.mode.startswith("compile"):
        network = torch.compile(network)
    dtype = None
    if a.mode == "autocast":
        dtype = torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float16
    elif a.mode.endswith("bf16"):
        dtype = torch.bfloat16
    pictures = upstream_model.read_pictures(a.pictures, a.batch, a.views, a.height, a.width)

    def forward():
        guard = torch.autocast(device.type, dtype=dtype) if dtype else contextlib.nullcontext()
        with torch.inference_mode(not a.mode.startswith("compile")), torch.no_grad(), guard:
            out = network(upstream_model.normalise(pictures, device))
        return [out[key].float().cpu() if key in out else None for key in ("depth", "extrinsics", "intrinsics")]

    def result():
        depth, extrinsics, intrinsics = (part.numpy() if part is not None else None for part in forward())
        return depth, extrinsics[..., :3, :] if extrinsics is not None else None, intrinsics

    protocol.answer(ready=True, load_ms=load_ms, precision={None: "fp32", torch.bfloat16: "bf16",
                                                            torch.float16: "fp16"}[dtype],
                    threads=torch.get_num_threads(), version="PyTorch " + torch.__version__)
    protocol.serve(forward, result)


main()
