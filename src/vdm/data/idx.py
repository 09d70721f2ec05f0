"""The idx format of MNIST and its relatives: a header of big-endian numbers, then bytes."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vdm.errors import InvalidInput

BYTES = 0x08
"""The third byte of the header, for data of unsigned bytes."""


def read_idx(path: Path) -> Tensor:
    """A uint8 tensor of the shape that the header says, of one to four dimensions; gzipped where the name ends in .gz.

    Raises:
        InvalidInput: a file that is not idx, not of bytes, or not whole.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInput(f"{path} cannot be read ({error}): download it again") from error
    if len(content) < 4 or content[:3] != bytes((0, 0, BYTES)) or not 1 <= content[3] <= 4:
        raise InvalidInput(
            f"{path} is not an idx file of bytes: its first bytes are {content[:4].hex(' ')}, not 00 00 08 and 01 … 04"
        )
    start = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:start]) if len(content) >= start else ()
    values = np.frombuffer(content, np.uint8, offset=min(start, len(content)))
    if len(content) < start or values.size != math.prod(shape):
        raise InvalidInput(f"{path} is cut short or too long: {values.size} bytes of data, where its header says {shape}")
    return torch.from_numpy(values.reshape(shape).copy())


def find_idx(root: Path, collection: str, name: str) -> Path | None:
    """The file called ``name``, plain or gzipped, in root/collection/raw, as torchvision leaves it, root/raw or ``root``."""
    folders = (root / collection / "raw", root / "raw", root)
    return next((path for f in folders for path in (f / name, f / f"{name}.gz") if path.is_file()), None)
