"""Arrays by name from a flax checkpoint or an npz file, read within bounds and without running code."""

import io
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import torch

from vdm.errors import InvalidInput

LARGEST_FILE = 2**33
"""The largest file in bytes; the largest public VDM has 3 GB with its optimiser's state."""

FACTOR = 100
"""The most bytes of content for each byte of a compressed file beyond ``ALLOWANCE``; weights hardly compress."""

ALLOWANCE = 2**26

DTYPES = ("bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
"""Types of arrays that are read, besides bfloat16, which becomes float32."""

NDARRAY, SCALAR = 1, 3
"""Flax's msgpack extensions for arrays and for numpy scalars; both hold (shape, name of the dtype, bytes)."""


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of ``path``: flax's msgpack with paths joined by "/", or an npz of such names.

    Raises:
        InvalidInput: a file that is missing, too large, damaged, or holds anything but nested names of plain arrays.
    """
    if not path.is_file():
        raise InvalidInput(f"no file at {path}: name a checkpoint such as ckpt-1.flax, or an npz")
    if path.stat().st_size > LARGEST_FILE:
        raise InvalidInput(f"{path} has {path.stat().st_size:,} bytes, more than {LARGEST_FILE:,}: no VDM is so large")
    try:
        return _read_npz(path) if zipfile.is_zipfile(path) else _read_flax(path.read_bytes())
    except Exception as error:  # a damaged file may raise anything
        reason = " ".join(f"{error}".split())[:120] or type(error).__name__
        raise InvalidInput(f"{path} cannot be read ({reason}): use an unedited flax checkpoint or npz of arrays") from error


def _read_flax(content: bytes) -> dict[str, np.ndarray]:
    tree = msgpack.unpackb(content, ext_hook=_array, raw=False, strict_map_key=True)
    if not isinstance(tree, dict):
        raise ValueError("its content is not a mapping of names")
    return dict(_flattened(tree, ""))


def _array(code: int, data: bytes) -> np.ndarray:
    """Return the array of one msgpack extension; its bytes must be as many as its shape and dtype say."""
    if code not in (NDARRAY, SCALAR):
        raise ValueError(f"extension type {code} is not an array")
    shape, dtype, buffer = msgpack.unpackb(data, raw=False, ext_hook=_nothing)
    return checked(shape, dtype, buffer)


def _nothing(code: int, data: bytes) -> None:
    raise ValueError("an extension inside an array")


def checked(shape: Any, dtype: Any, buffer: Any) -> np.ndarray:
    """Return ``buffer`` as an array.

    Raises:
        ValueError: another dtype than ``DTYPES``, or bytes that the shape does not account for.
    """
    if not isinstance(buffer, bytes) or not isinstance(dtype, str) or dtype not in (*DTYPES, "bfloat16"):
        raise ValueError(f"an array of type {str(dtype)[:20]!r}")
    if not all(isinstance(n, int) and n >= 0 for n in shape) or len(shape) > 8:
        raise ValueError("an array with a shape that is not one")
    size = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
    if math.prod(shape) * size != len(buffer):
        raise ValueError(f"an array of shape {tuple(shape)} with {len(buffer)} bytes")
    if dtype == "bfloat16":
        bits = torch.from_numpy(np.frombuffer(buffer, np.int16).copy())
        return bits.view(torch.bfloat16).float().numpy().reshape(shape)
    return np.frombuffer(buffer, dtype).reshape(shape)


def _flattened(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the arrays below ``tree`` by their paths; numbers, text and None are left out."""
    if "__msgpack_chunked_array__" in tree:
        raise ValueError("an array in several chunks, which no VDM needs")
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{name}/")
        elif isinstance(value, np.ndarray):
            yield f"{prefix}{name}", value
        elif isinstance(value, int) and not isinstance(value, bool):
            yield f"{prefix}{name}", np.array(value, np.uint64 if value > 0 else np.int64)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        if total > ALLOWANCE + FACTOR * path.stat().st_size:
            raise ValueError(f"its {total:,} bytes of content are far more than the file")
        return {member.filename.removesuffix(".npy"): _npy(archive.read(member)) for member in members}


def _npy(content: bytes) -> np.ndarray:
    """Return the array of a .npy file, without numpy's own allocation, which trusts the header."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array of format {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if fortran and len(shape) > 1:
        return checked(shape[::-1], dtype.name, stream.read()).T
    return checked(shape, dtype.name if dtype.isnative else "of foreign byte order", stream.read())
