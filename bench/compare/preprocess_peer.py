# SPDX-License-Identifier: MIT
"""The Python way from a picture to the network's input: PIL, cv2 and a thread pool.

usage: preprocess_peer.py raw|jpeg WIDTH HEIGHT THREADS
"""

import io
import json
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


def prepare(image, as_tensor):
    height, width = image.shape[:2]
    scale = TARGET / max(width, height)
    image = resize(image, max(1, round(width * scale)), max(1, round(height * scale)))
    image = resize(image, nearest_multiple(image.shape[1]), nearest_multiple(image.shape[0]))
    if not as_tensor:
        return image
    tensor = (image.astype(np.float32) / 255.0 - MEAN) / DEVIATION
    return np.ascontiguousarray(tensor.transpose(2, 0, 1))


def main():
    kind, width, height, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    cv2.setNumThreads(1)
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(1).integers(0, 32, (height, width, 3))
    waves = np.stack([(3 * x + 2 * y + 85 * c) % 512 for c in range(3)], -1)
    picture = np.clip(np.where(waves < 256, waves, 511 - waves) * 0.6 + noise, 0, 255).astype(np.uint8)
    picture = cv2.GaussianBlur(picture, (5, 5), 1.2)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=90)
    file = buffer.getvalue()

    def one(_):
        if kind == "raw":
            return prepare(picture, False)
        return prepare(np.asarray(Image.open(io.BytesIO(file)).convert("RGB")), True)

    pool = ThreadPoolExecutor(threads)
    protocol.answer(ready=True)
    for line in sys.stdin:
        count = json.loads(line).get("count", 1)
        protocol.answer(ms=protocol.milliseconds(lambda: list(pool.map(one, range(count)))))


main()
