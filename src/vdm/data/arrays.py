"""Arrays of NumPy or torch, in files or in memory, as a data set."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from mmap import mmap
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vdm.buildable import buildable
from vdm.data.npy import keys_of, open_array
from vdm.data.shares import Splitting, layout, says_split
from vdm.data.source import ImageSource, Source
from vdm.data.source import Rows as Frames
from vdm.data.split import Split
from vdm.data.stored import Rows, RowWriter, StoredRows, served_type, taken
from vdm.errors import InvalidInput
from vdm.plots.images import image_grid

Settings = ParamSpec("Settings")
Array = np.ndarray | StoredRows


class AnyShape(ImageSource):
    """Examples of any shape: integer levels 0 … ``levels`` − 1, or for ``levels`` = 0 real numbers."""

    def picture(self, x: Tensor, levels: int | None = None) -> Image.Image:
        return draw(x, levels or self.levels)

    def frames(self, rows: Frames, captions: Sequence[str], levels: int | None = None) -> Image.Image:
        if len(self.event_shape) == 3 and self.event_shape[0] in (1, 3) and (levels or self.levels) > 1:
            return super().frames(rows, captions, levels)
        return Source.frames(self, rows, captions, levels)


class ArraySource(AnyShape):
    """Examples (N, *event) in arrays: integer levels, or for ``levels`` = 0 real numbers, served as float32.

    Arrays of a npy file, and of an uncompressed npz file, stay there and are read by rows. An array (N, H, W) has one
    channel; one of (N, H, W, C) is turned to (N, C, H, W).

    Args:
        path: a npy file; a npz file; a folder of npy files, one for each split, or one for each example, whose folders then
            say its split and its class; or arrays in memory by name.
        splitting: which arrays or examples are which split, and which arrays are labels.
        levels: K of the integers 0 … K − 1; 0 for real numbers.
        labels: yield the labels as conditions: whole numbers (N,) or vectors (N, F).
    """

    release = "arrays"

    def __init__(
        self,
        event_shape: Sequence[int],
        path: str | Mapping[str, Any],
        splitting: Splitting,
        levels: int = 256,
        labels: bool = False,
    ) -> None:
        super().__init__(event_shape)
        self.path, self.splitting, self.levels, self.labels = path, splitting, levels, labels
        self.name = Path(path).expanduser().resolve().stem if isinstance(path, str) else "arrays"
        self.can_flip = len(self.event_shape) == 3

    @classmethod
    @buildable
    def of(
        cls,
        splitting: Callable[Settings, Splitting],
        event_shape: Sequence[int],
        path: str,
        levels: int = 256,
        labels: bool = False,
        *args: Settings.args,
        **settings: Settings.kwargs,
    ) -> "ArraySource":
        """Build the splitting from ``settings``, which stand beside the source's own in a config: ``data.val=…``."""
        return cls(event_shape, path, splitting(*args, **settings), levels, labels)

    def load(self) -> dict[str, Split]:
        arrays, where = self._arrays()
        examples, labels = self.splitting.parts([*arrays], where)
        x = {split: as_rows(arrays[name](), self.event_shape, f"{where}, {name}") for split, name in examples.items()}
        conditions = {split: None if not self.labels else self._labels(labels, arrays, split, len(x[split])) for split in x}
        rows = self.splitting.held_out(len(x["train"]), x)
        return {
            **{split: Split(x[split], conditions[split]) for split in x},
            **{split: _part(x["train"], conditions["train"], own) for split, own in rows.items() if len(rows) > 1},
        }

    def _arrays(self) -> tuple[dict[str, Callable[[], Array]], str]:
        """Return what opens each array, by its name, and where they are."""
        if not isinstance(self.path, str):
            return {name: lambda value=value: in_memory(value) for name, value in self.path.items()}, "arrays"  # type: ignore[misc]
        path = Path(self.path).expanduser()
        if path.is_dir():
            return self._folder(path), str(path)
        if not path.is_file():
            raise InvalidInput(f"there is no file {path}: set data.path= to a npy or npz file, or a folder of npy files")
        if path.suffix == ".npz":
            return {key: lambda key=key: open_array(path, key) for key in keys_of(path)}, str(path)  # type: ignore[misc]
        return {path.stem: lambda: open_array(path)}, str(path)

    def _folder(self, path: Path) -> dict[str, Callable[[], Array]]:
        """Return what opens the arrays of a folder: one a split, by its name, or files that hold one example each."""
        files = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*.npy"))}
        if not files:
            raise InvalidInput(f"there is no npy file in {path}: set data.path= to a npy or npz file, or a folder of them")
        if self.splitting.names or (all("/" not in name for name in files) and any(says_split(name) for name in files)):
            return {file.stem: lambda file=file: open_array(file) for file in files.values()}  # type: ignore[misc]
        found = layout([*files])
        kinds = sorted({(found.inner(name) or [""])[0] for name in files})
        arrays = dict[str, Callable[[], Array]]()
        for split, names in (found.names or {"train": [*files]}).items():
            arrays[split] = lambda names=names: joined([files[name] for name in names])  # type: ignore[misc]
            label = np.array([kinds.index((found.inner(name) or [""])[0]) for name in names])
            arrays |= {f"{split}_labels": lambda label=label: label} if len(kinds) > 1 else {}  # type: ignore[misc]
        return arrays

    def _labels(self, names: Mapping[str, str], arrays: Mapping[str, Callable[[], Array]], split: str, n: int) -> Tensor:
        if split not in names:
            raise InvalidInput(
                f"data.labels=true, and there are no labels for {split}: name them, data.names.{split}_labels=NAME"
            )
        found = np.asarray(arrays[names[split]]()[:])
        label = torch.from_numpy(np.ascontiguousarray(found, np.float32 if found.dtype.kind == "f" else np.int64))
        if label.ndim == 2 and label.shape[1] == 1:
            label = label[:, 0]
        if len(label) != n:
            raise InvalidInput(f"{names[split]} has {len(label)} labels for {n} examples: give one for each")
        return label


def _part(x: Rows, condition: Tensor | None, rows: np.ndarray) -> Split:
    return Split(taken(x, rows), None if condition is None else condition[torch.from_numpy(rows)])


def joined(files: Sequence[Path]) -> Array:
    """Return the examples of files that hold one each, of the same shape and type."""
    first = np.asarray(open_array(files[0])[:])
    rows = RowWriter((len(files), *first.shape), first.dtype)
    for file in files:
        rows.append(np.asarray(open_array(file)[:]), str(file))
    return rows.finished()


def in_memory(value: Any) -> Array:
    """Return an array, a tensor or a path to a npy file as an array."""
    if isinstance(value, StoredRows):
        return value
    if isinstance(value, str | Path):
        return open_array(Path(value).expanduser())
    if isinstance(value, np.memmap) and isinstance(value.base, mmap) and value.filename and value.flags.c_contiguous:
        return StoredRows(Path(value.filename).open("rb"), value.shape, value.dtype, value.offset)
    found = value.numpy(force=True) if isinstance(value, Tensor) else np.asarray(value)
    if found.ndim == 0 or found.dtype.hasobject:
        raise InvalidInput(f"an array of examples (N, *event) is needed, got {type(value).__name__}")
    return found


def as_rows(x: Array, event_shape: tuple[int, ...], where: str) -> Rows:
    """Return an array as examples of ``event_shape``, in the types that ``served_type`` says.

    Raises:
        InvalidInput: an array of another shape, with the setting that would fit it.
    """
    event = tuple(x.shape[1:])
    axes = None
    if event != event_shape:
        single = event_shape[:1] == (1,) and math.prod(event) == math.prod(event_shape)
        if single and event in (event_shape[1:], (math.prod(event),)):
            event = event_shape
        elif len(event) == 3 and (event[2], *event[:2]) == event_shape:
            axes = (2, 0, 1)
        else:
            likely = [*likely_shape(event)]
            raise InvalidInput(f"{where} holds examples of shape {event}: set 'data.event_shape={likely}'")
    if isinstance(x, StoredRows):
        return StoredRows(x.file, (x.stored[0], *event), x.kind, x.offset, x.chosen, axes)
    x = x.reshape(len(x), *event)
    x = x if axes is None else x.transpose(0, *(1 + axis for axis in axes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, on arrays that cannot be written; nothing writes here
        return torch.from_numpy(np.ascontiguousarray(x, served_type(x.dtype)))


def likely_shape(event: tuple[int, ...]) -> tuple[int, ...]:
    """Return the event shape (C, H, W) that examples of shape (H, W) or (H, W, C) most likely have."""
    if len(event) == 2:
        return (1, *event)
    return (event[2], *event[:2]) if len(event) == 3 and event[2] in (1, 3) and event[0] not in (1, 3) else event


def draw(x: Tensor, levels: int) -> Image.Image:
    """Draw examples (n, *event) of any shape: in colour, or in grey with the channels of an example one below the other.

    Real numbers are drawn from black to white between the smallest and the largest.
    """
    if levels < 2:
        low, high = x.min(), x.max()
        x, levels = ((x - low) / (high - low).clamp(min=1e-12) * 255).round(), 256
    if x.ndim == 4 and x.shape[1] in (1, 3):
        return image_grid(x, levels)
    rows = x.reshape(len(x), 1, -1, x.shape[-1])
    return image_grid(rows, levels, columns=8 if x.ndim > 2 else 1, least_side=8)


def likely_levels(dtype: np.dtype) -> int:
    """Return K for whole numbers of a type, 256 or for wider types 65536, and 0 for reals."""
    return 0 if dtype.kind == "f" else 2 if dtype.kind == "b" else 256 if dtype.itemsize == 1 else 65536
