"""The size of the same images by PNG, lossless WebP and a general-purpose compressor."""

import io
import lzma
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vdm.codec.files import picture

WEBP_SIDE = 16383
"""Pixels of the longest side of a WebP picture."""


def other_sizes(x: NDArray) -> dict[str, int]:
    """Return bytes of the levels x (N, *event) by each code that takes them: each image by itself, or all in one sheet."""
    levels = x.astype(np.uint8) if x.min() >= 0 and x.max() < 256 else x
    sizes = {"xz": len(lzma.compress(np.ascontiguousarray(levels).tobytes(), preset=9 | lzma.PRESET_EXTREME))}
    if levels.dtype != np.uint8 or levels.ndim != 4 or levels.shape[1] not in (1, 3):
        return sizes
    whole = _sheet(levels)
    for name, size in (("png", _png), ("webp", _webp)):
        sizes[name] = sum(size(picture(image)) for image in levels)
        if name == "png" or max(whole.size) <= WEBP_SIDE:
            sizes[f"{name}_sheet"] = size(whole)
    return sizes


def _png(image: Image.Image) -> int:
    image.save(buffer := io.BytesIO(), "PNG", optimize=True)
    return buffer.tell()


def _webp(image: Image.Image) -> int:
    image.convert("RGB").save(buffer := io.BytesIO(), "WEBP", lossless=True, quality=100, method=6)
    return buffer.tell()


def _sheet(x: NDArray[np.uint8]) -> Image.Image:
    """All images in rows, without borders; zeros in the place of the last row's missing ones."""
    n, channels, height, width = x.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    filled = np.zeros((rows * columns, channels, height, width), np.uint8)
    filled[:n] = x
    tiled = filled.reshape(rows, columns, channels, height, width).transpose(2, 0, 3, 1, 4)
    return picture(tiled.reshape(channels, rows * height, columns * width))
