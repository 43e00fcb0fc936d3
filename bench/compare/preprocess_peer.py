# SPDX-License-Identifier: MIT
"""The Python ways from a picture to the network's input, in a thread pool.

usage: preprocess_peer.py raw|jpeg "PIL and cv2"|PIL FILE WIDTH HEIGHT WORKERS CORES

raw: interleaved RGB of WIDTH x HEIGHT, resized. jpeg: decoded, resized, normalised, transposed. With cv2 in two steps
as upstream does it, with PIL alone in one bilinear step to the same size.
"""

import io
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import protocol

import cv2
import numpy as np
from PIL import Image

MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)
TARGET = 504


def resize(image, width, height):
    if (image.shape[1], image.shape[0]) == (width, height):
        return image
    grows = width > image.shape[1] or height > image.shape[0]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA)


def nearest_multiple(side):
    low = side // 14 * 14
    return max(1, low + 14 if side - low >= 14 - (side - low) else low)


def sizes(width, height):
    """After the first step and after the second."""
    scale = TARGET / max(width, height)
    first = max(1, round(width * scale)), max(1, round(height * scale))
    return first, (nearest_multiple(first[0]), nearest_multiple(first[1]))


def two_steps(image):
    first, second = sizes(image.shape[1], image.shape[0])
    return resize(resize(image, *first), *second)


def to_tensor(image):
    tensor = (image.astype(np.float32) / 255.0 - MEAN) / DEVIATION
    return np.ascontiguousarray(tensor.transpose(2, 0, 1))


def from_jpeg(data, with_cv2):
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if with_cv2:
        return to_tensor(two_steps(np.asarray(image)))
    return to_tensor(np.asarray(image.resize(sizes(*image.size)[1], Image.BILINEAR)))


def main():
    kind, way, path = sys.argv[1:4]
    width, height, workers, cores = (int(argument) for argument in sys.argv[4:8])
    cv2.setNumThreads(1)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    with open(path, "rb") as file:
        data = file.read()
    if kind == "raw":
        picture = np.frombuffer(data, dtype=np.uint8).reshape(height, width, 3)

    def one(_):
        return two_steps(picture) if kind == "raw" else from_jpeg(data, way != "PIL")

    pool = ThreadPoolExecutor(workers)
    protocol.answer(ready=True)
    for line in sys.stdin:
        count = json.loads(line).get("count", 1)
        protocol.answer(ms=protocol.milliseconds(lambda: list(pool.map(one, range(count)))))


main()
