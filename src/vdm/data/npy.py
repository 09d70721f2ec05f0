"""NumPy's files, npy and npz: what their headers say is checked against their size before anything is read."""

import math
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vdm.data.stored import BoundedFile, StoredRows, served_type
from vdm.errors import InvalidInput, one_line

HEADER = 2**14  # bytes of a header
INFLATED = 2**32  # bytes of a compressed array, which is held in memory
RATIO = 1032  # deflate's largest
LOCAL = 30  # bytes of the header before a member of a zip file, with two lengths at 26 and 28


class Header(NamedTuple):
    """What the header of a npy file says, and its own length in bytes."""

    shape: tuple[int, ...]
    columns: bool
    dtype: np.dtype
    length: int

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def open_array(path: Path, key: str | None = None) -> StoredRows | np.ndarray:
    """Return the array of a npy file, or the one called ``key`` in a npz file, unread if it can be read by rows.

    An array that is compressed, or stored by columns, is held in memory.

    Raises:
        InvalidInput: a file of another format, cut short, of more bytes than its size allows, or of Python objects.
    """
    with _refusing(path, key):
        if key is None:
            with BoundedFile(path) as file:
                header = _header(file.read)
            return _rows(path, header, 0, path.stat().st_size)
        with BoundedFile(path) as file, zipfile.ZipFile(file) as archive:
            info = archive.getinfo(f"{key}.npy")
            with archive.open(info) as member:
                header = _header(member.read)
                if info.compress_type != zipfile.ZIP_STORED:
                    return _inflated(header, info, member.read)
            file.seek(info.header_offset)
            local = file.read(LOCAL)
            start = info.header_offset + LOCAL + sum(int.from_bytes(local[at : at + 2], "little") for at in (26, 28))
            return _rows(path, header, start, info.file_size)


def array_of(content: bytes) -> np.ndarray:
    """Return the array that the bytes of a npy file hold; raise ValueError if they are anything else."""
    header = _header(BytesIO(content).read)
    if len(content) != header.length + header.nbytes:
        raise ValueError(f"its header says {header.shape} of {header.dtype}, and it has {len(content):,} bytes")
    return np.frombuffer(content, header.dtype, offset=header.length).reshape(
        header.shape, order="F" if header.columns else "C"
    )


def keys_of(path: Path) -> list[str]:
    """Return the names of the arrays in a npz file."""
    with _refusing(path, None), BoundedFile(path) as file, zipfile.ZipFile(file) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


@contextmanager
def _refusing(path: Path, key: str | None) -> Iterator[None]:
    try:
        yield
    except InvalidInput as error:
        raise error if str(path) in str(error) else InvalidInput(f"{path}: {error}") from error
    except Exception as error:  # a broken file may raise anything
        reason = "it has no such array" if isinstance(error, KeyError) else one_line(error, 160)
        what = "numpy's file" if key is None else f"an npz file with {key!r}"
        raise InvalidInput(f"{path} cannot be read as {what} ({reason}): fetch it again") from error


def _header(read: Callable[[int], bytes]) -> Header:
    start = read(8)
    version, length_bytes = start[6:7], 2 if start[6:7] == b"\1" else 4
    if start[:6] != b"\x93NUMPY" or version not in (b"\1", b"\2", b"\3"):
        raise ValueError("its first bytes are not those of a npy file")
    told = read(length_bytes)
    length = int.from_bytes(told, "little")
    if length > HEADER:
        raise ValueError(f"a header of {length:,} bytes")
    parse = np.lib.format.read_array_header_1_0 if version == b"\1" else np.lib.format.read_array_header_2_0
    shape, columns, dtype = parse(BytesIO(told + read(length)))
    if dtype.hasobject or not shape:
        raise ValueError("it holds Python objects" if dtype.hasobject else "it holds a single number")
    return Header(shape, columns and len(shape) > 1, dtype, 8 + length_bytes + length)


def _rows(path: Path, header: Header, start: int, size: int) -> StoredRows | np.ndarray:
    if size != header.length + header.nbytes or path.stat().st_size < start + size:
        raise ValueError(f"its header says {header.shape} of {header.dtype}, and it has {size:,} bytes")
    served_type(header.dtype)
    if header.columns:
        _check_memory(header)
        found = np.fromfile(path, header.dtype, math.prod(header.shape), offset=start + header.length)
        return found.reshape(header.shape, order="F")
    return StoredRows(path.open("rb"), header.shape, header.dtype, start + header.length)


def _inflated(header: Header, info: zipfile.ZipInfo, read: Callable[[int], bytes]) -> np.ndarray:
    if info.file_size != header.length + header.nbytes or header.nbytes > RATIO * info.compress_size + 64:
        raise ValueError(
            f"its header says {header.shape} of {header.dtype}, which cannot be in {info.compress_size:,} bytes"
        )
    _check_memory(header)
    content, place = np.empty(header.nbytes, np.uint8), 0
    while piece := read(2**20):
        content[place : place + len(piece)] = np.frombuffer(piece, np.uint8)
        place += len(piece)
    if place != header.nbytes:
        raise ValueError("it is cut short")
    return content.view(header.dtype).reshape(header.shape, order="F" if header.columns else "C")


def _check_memory(header: Header) -> None:
    if header.nbytes > INFLATED:
        raise ValueError(f"{header.nbytes:,} bytes, which are compressed or stored by columns: save it with np.save")
