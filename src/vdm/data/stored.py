"""Examples in a file, read when they are asked for: neither memory nor address space grows with the file."""

import io
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from vdm.errors import InvalidInput

PIECE = 2**26  # bytes read at once by what goes over all examples
IN_MEMORY = 2**28  # bytes of examples that are kept in memory, of those that are written one by one
AT_ONCE = 2**24  # bytes that a reader of a foreign archive may ask for at once


def served_type(dtype: np.dtype) -> np.dtype:
    """Return the type in which numbers of ``dtype`` reach a model: uint8, int32 or int64 for levels, float32 for reals.

    Raises:
        InvalidInput: anything but whole and real numbers.
    """
    if dtype.kind == "f":
        return np.dtype(np.float32)
    if dtype.kind not in "biu":
        raise InvalidInput(f"numbers of type {dtype} are neither levels nor reals: save them as integers or floats")
    small = dtype.kind == "b" or dtype == np.uint8
    return np.dtype(np.uint8 if small else np.int32 if np.can_cast(dtype, np.int32) else np.int64)


class StoredRows:
    """Examples (N, *event) in an open file of plain numbers.

    It stands for a tensor on the CPU wherever rows are taken by index, slice or mask, which reads them; a function of
    torch, and ``to`` another device, read all of it. Worker processes get the open file.

    Args:
        file: open for reading, in binary mode.
        shape: of the array in the file.
        dtype: of the numbers in the file; they are served as ``served_type`` says.
        offset: of the first number in bytes.
        chosen: rows of the file that these are, (N,), int64; None for all.
        axes: order of the event's axes in the file, such as (2, 0, 1) for the channels last; None to keep it.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        file: IO[bytes],
        shape: Sequence[int],
        dtype: Any = np.uint8,
        offset: int = 0,
        chosen: np.ndarray | None = None,
        axes: tuple[int, ...] | None = None,
    ) -> None:
        self.file, self.stored, self.kind, self.offset = file, tuple(shape), np.dtype(dtype), offset
        self.chosen, self.axes = chosen, axes
        self._served = served_type(self.kind)
        self.dtype = torch.from_numpy(np.empty(0, self._served)).dtype
        event = self.stored[1:] if axes is None else tuple(self.stored[1:][axis] for axis in axes)
        self.shape = torch.Size((self.stored[0] if chosen is None else len(chosen), *event))
        self.ndim, self.nbytes = len(self.shape), math.prod(self.shape) * self._served.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (row for rows in pieces(self) for row in rows)

    def __getitem__(self, index: Any) -> Tensor:
        if isinstance(index, slice):
            return self._read(np.arange(*index.indices(len(self))))
        found = np.asarray(index)
        if found.dtype == bool:
            return self._read(np.arange(len(self))[found])
        if found.size and not -len(self) <= found.min() <= found.max() < len(self):
            raise IndexError(f"rows {found.min()} … {found.max()} of {len(self)}")
        found = np.where(found < 0, found + len(self), found).astype(np.int64)
        return self._read(found) if found.ndim else self._read(found[None])[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:].numpy(), dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.stored, self.kind, self.offset, self.chosen, self.axes)
        from multiprocessing.reduction import DupFd  # which Windows lacks

        return _reopened, (DupFd(self.file.fileno()), *parts)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Read all examples for any function of torch."""
        whole = tree_map(lambda each: each[:] if isinstance(each, cls) else each, (args, kwargs or {}))
        return function(*whole[0], **whole[1])

    def rows(self, chosen: np.ndarray) -> "StoredRows":
        """Return some of these rows, unread."""
        known = chosen if self.chosen is None else self.chosen[chosen]
        return StoredRows(self.file, self.stored, self.kind, self.offset, known, self.axes)

    def with_axes(self, axes: tuple[int, ...]) -> "StoredRows":
        """Return the same rows with the event's axes in another order, unread."""
        return StoredRows(self.file, self.stored, self.kind, self.offset, self.chosen, axes)

    def split(self, size: int) -> Iterator[Tensor]:
        """Yield the rows, ``size`` at a time, as ``Tensor.split``."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Return itself for a device that is the CPU; else read all, as a tensor."""
        stays = not kwargs and len(args) == 1 and isinstance(args[0], str | torch.device)
        return self if stays and torch.device(args[0]).type == "cpu" else self[:].to(*args, **kwargs)

    def _read(self, rows: np.ndarray) -> Tensor:
        """Read rows by number, one call of the system for each run of neighbours."""
        rows = rows if self.chosen is None else self.chosen[rows]
        found = np.empty((len(rows), *self.stored[1:]), self.kind)
        each, content = math.prod(self.stored[1:]) * self.kind.itemsize, memoryview(found.reshape(-1).view(np.uint8).data)
        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
        for start, end in zip(starts, np.append(starts[1:], len(rows)), strict=False):  # no start where there are no rows
            self._fill(content[start * each : end * each], self.offset + int(rows[start]) * each)
        if self.axes is not None:
            found = found.transpose(0, *(1 + axis for axis in self.axes))
        return torch.from_numpy(np.ascontiguousarray(found, self._served))

    def _fill(self, content: memoryview, place: int) -> None:
        while content:
            count = os.preadv(self.file.fileno(), [content], place)
            if not count:
                raise InvalidInput(f"{self.file.name} was cut short while it was read: put it back, then try again")
            content, place = content[count:], place + count


def _reopened(descriptor: Any, *parts: Any) -> StoredRows:
    return StoredRows(os.fdopen(descriptor.detach(), "rb"), *parts)


Rows = Tensor | StoredRows
"""Examples (N, *event), in memory or in a file."""


def pieces(x: Rows) -> Iterator[Tensor]:
    """Yield all examples in order, at most ``PIECE`` bytes at a time, but at least one."""
    return iter(x.split(max(1, PIECE * len(x) // max(1, x.nbytes))))


def taken(x: Rows, rows: np.ndarray) -> Rows:
    """Return some rows, those of a file unread."""
    return x.rows(rows) if isinstance(x, StoredRows) else x[torch.from_numpy(rows)]


class RowWriter:
    """Examples (N, *event) that are written one after the other, in memory or, if they are many, in a file without a name.

    Args:
        shape, kind: of all of them.
        folder: for the file, which is gone when the process ends; None for the system's own.
    """

    def __init__(self, shape: Sequence[int], kind: np.dtype, folder: Path | None = None) -> None:
        self.shape, self.kind, self.count = tuple(shape), kind, 0
        self.memory, self.file = np.empty(0, kind), None
        if math.prod(shape) * kind.itemsize <= IN_MEMORY:
            self.memory = np.empty(self.shape, kind)
            return
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 it is read as long as the examples live
        except OSError as error:
            raise InvalidInput(f"examples cannot be stored in {folder} ({error.strerror}): set data.cache=") from error

    def append(self, x: np.ndarray, where: str) -> None:
        """Write one example (*event); raise InvalidInput for one of another shape or type."""
        if x.dtype != self.kind or x.shape != self.shape[1:]:
            said = f"{where} holds {x.dtype} of shape {x.shape}, and earlier ones {self.kind} of {self.shape[1:]}"
            raise InvalidInput(f"{said}: give all examples one type and shape")
        if self.file is None:
            self.memory[self.count] = x
        else:
            self.file.write(np.ascontiguousarray(x).data)
        self.count += 1

    def finished(self) -> "StoredRows | np.ndarray":
        """Return the examples."""
        if self.file is None:
            return self.memory
        self.file.flush()
        return StoredRows(self.file, self.shape, self.kind)


class BoundedFile(io.FileIO):
    """A file that refuses to be read by more than ``AT_ONCE`` at once, whatever a header in it says."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        asked = left if size is None or size < 0 else min(size, left)
        if asked > AT_ONCE:
            raise InvalidInput(f"{self.name} asks for {asked >> 20} MiB at once where a header should stand: get it again")
        return super().read(asked) or b""


def whole(path: Path, most: int) -> bytes:
    """Return the content of a file whose size is looked at before it is read.

    Raises:
        InvalidInput: a file of more than ``most`` bytes.
    """
    size = path.stat().st_size
    if size > most:
        raise InvalidInput(
            f"{path} has {size:,} bytes, more than the {most:,} that a file of this kind may have: get it again"
        )
    return path.read_bytes()
