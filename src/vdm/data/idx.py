"""The idx format of MNIST and data sets in its format: a header of big-endian numbers, then bytes."""

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
"""Third byte of the header of unsigned bytes."""


def read_idx(path: Path) -> Tensor:
    """Return a uint8 tensor of one to four dimensions, in the shape of the header; a name in .gz means a gzipped file.

    Raises:
        InvalidInput: a file of another format, of another type than bytes, or cut short.
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
