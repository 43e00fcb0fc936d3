# SPDX-License-Identifier: MIT
"""Writes upstream's network with the weights of a model folder as ONNX: normalised input of one fixed shape in, depth and
cameras out. What these do not need (the ray branch) is not in the file.

usage: export_onnx.py UPSTREAM FOLDER OUTPUT.onnx BATCH VIEWS HEIGHT WIDTH fp32|bf16

bf16 is upstream's network under autocast to bfloat16; input and outputs are float32 all the same.
"""

import sys

import protocol

import torch

import upstream_model

OPSET = 17
# The newest that the exporter without Dynamo writes, and the first whose convolutions take bfloat16. Between them nothing but
# types has changed of what the network uses.
OPSET_WRITTEN, OPSET_BFLOAT16 = 20, 22


def cartesian_prod(*vectors):
    """torch.cartesian_prod in operators that ONNX has."""
    return torch.stack(torch.meshgrid(*vectors, indexing="ij"), -1).reshape(-1, len(vectors))


def swap_last(graph, x):
    """Tensor.mT, which the exporter does not know."""
    order = list(range(x.type().dim()))
    order[-2:] = reversed(order[-2:])
    return graph.op("Transpose", x, perm_i=order)


def layer_norm(self, x):
    """In float32: ONNX's has one type for input and weights, and autocast leaves the latter as they are."""
    return torch.nn.functional.layer_norm(x.float(), self.normalized_shape, self.weight, self.bias, self.eps)


class Outputs(torch.nn.Module):
    def __init__(self, network, reduced):
        super().__init__()
        self.network = network
        self.reduced = reduced

    def forward(self, image):
        # Weights that were cast once would be constants of the first pass.
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.reduced, cache_enabled=False):
            out = self.network(image)
        return tuple(out[key].float() for key in ("depth", "extrinsics", "intrinsics") if key in out)


def allow_bfloat16(path):
    import onnx

    model = onnx.load(path, load_external_data=False)
    for used in model.opset_import:
        if used.domain in ("", "ai.onnx"):
            used.version = max(used.version, OPSET_BFLOAT16)
    onnx.save(model, path)


def export(module, image, path, dynamo):
    opset = OPSET_WRITTEN if module.reduced else OPSET
    torch.onnx.export(module, (image,), path, input_names=["image"], output_names=["depth", "extrinsics", "intrinsics"],
                      opset_version=18 if dynamo else opset, dynamo=dynamo)
    if module.reduced:
        allow_bfloat16(path)


def main():
    upstream, folder, path = sys.argv[1:4]
    batch, views, height, width = (int(word) for word in sys.argv[4:8])
    torch.cartesian_prod = cartesian_prod
    try:
        torch.onnx.register_custom_op_symbolic("aten::mT", swap_last, OPSET)
    except (AttributeError, RuntimeError):
        pass  # a version that knows it, or has another exporter only
    module = Outputs(upstream_model.load(upstream, folder), sys.argv[8] == "bf16").eval()
    if module.reduced:
        torch.nn.LayerNorm.forward = layer_norm
    image = torch.zeros(batch, views, 3, height, width)
    problems = []
    with torch.no_grad():
        for dynamo in (False, True):
            try:
                export(module, image, path, dynamo)
                protocol.answer(ready=True)
                return
            except Exception as problem:  # the other exporter may do better
                problems.append(f"{type(problem).__name__}: {problem}".splitlines()[0])
    protocol.answer(error="cannot export to ONNX: " + "; ".join(problems))


main()
