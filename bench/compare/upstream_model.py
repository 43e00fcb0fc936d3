# SPDX-License-Identifier: MIT
"""Upstream's network with weights that da3-bench wrote, and the pictures that all engines get."""

import json
import mmap
import os
import sys
import warnings

import numpy as np

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
# One module under four names: a file has it once.
SHARED_NORM = ("output_conv2_aux.0.2.", "output_conv2_aux.1.2.", "output_conv2_aux.2.2.", "output_conv2_aux.3.2.")


def read_safetensors(path):
    """All float32 tensors of a file, by name."""
    import torch

    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] != "F32":
            raise ValueError(f"{name} is {entry['dtype']}, not F32")
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data, np.float32, (end - begin) // 4, 8 + length + begin)
        tensors[name] = torch.from_numpy(values).reshape(entry["shape"])
    return tensors


def load(upstream, folder):
    """The network of a checkout of upstream with the weights of a model folder, in evaluation mode."""
    import torch

    warnings.filterwarnings("ignore")
    sys.path.insert(0, os.path.join(upstream, "src"))
    from depth_anything_3.cfg import create_object, load_config
    from depth_anything_3.registry import MODEL_REGISTRY

    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        name = json.load(file)["model_name"]
    if name not in MODEL_REGISTRY:
        raise ValueError(f"upstream has no model '{name}'")
    torch.manual_seed(0)
    network = create_object(load_config(MODEL_REGISTRY[name])).eval()
    weights = {key.removeprefix("model."): value
               for key, value in read_safetensors(os.path.join(folder, "model.safetensors")).items()}
    missing, extra = network.load_state_dict(weights, strict=False)
    missing = [key for key in missing if not any(part in key for part in SHARED_NORM)]
    if missing or extra:
        raise ValueError(f"weights do not fit: missing {missing[:3]}, extra {extra[:3]}")
    return network.requires_grad_(False)


def read_pictures(path, batch, views, height, width):
    """8-bit RGB as a tensor [batch, views, height, width, 3]."""
    import torch

    return torch.from_numpy(np.fromfile(path, np.uint8)).reshape(batch, views, height, width, 3)


def normalise(pictures, device):
    """The network's input [batch, views, 3, height, width]."""
    import torch

    x = pictures.to(device).permute(0, 1, 4, 2, 3).float() / 255.0
    shape = (1, 1, 3, 1, 1)
    mean = torch.tensor(MEAN, device=device).view(shape)
    return ((x - mean) / torch.tensor(DEVIATION, device=device).view(shape)).contiguous()
