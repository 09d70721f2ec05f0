"""Images that are decoded once and memory-mapped ever after."""

import fcntl
import hashlib
import json
import math
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from vdm.data.base import InMemoryData
from vdm.data.split import Split
from vdm.errors import InvalidInput
from vdm.plots.images import image_grid

DECODING = 2
"""To be raised whenever the same files come to other bytes."""


class Block(NamedTuple):
    """Decoded images (n, C, H, W) of bytes, and their classes (n,), that come next in a split."""

    split: str
    x: np.ndarray
    label: np.ndarray


class Kept(NamedTuple):
    """What is told of a decoded split: number of images, fingerprints of the two files, stamp of that of the images."""

    size: int
    x: str
    label: str
    stamp: list[int]


class Decoded(NamedTuple):
    """A folder of decoded images: its splits by name, and the ``notes`` of their decoding."""

    folder: Path
    splits: dict[str, Kept]
    notes: dict[str, Any]


class DecodedImages(InMemoryData, ABC):
    """Images of 256 levels whose files are read once, into a folder of plain bytes that is mapped into memory.

    The folder is below ``cache``, under a name made from ``root`` and ``source()``: other ones have another folder. It is
    written beside its place and renamed, by one process while others wait, so it is whole or not there. What has changed in
    it since is refused; training images, which may be many, are read through for that only if their file's stamp is another.

    Args:
        root: where the files are.
        cache: where the decoded images are kept: as many bytes as there are pixels, times the channels.
        labels: yield the classes as conditions.
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        batch_size: int,
        eval_batch_size: int,
        root: str,
        cache: str,
        seed: int = 0,
        workers: int = 0,
        device: str | None = None,
        flip: bool = False,
        labels: bool = False,
    ) -> None:
        super().__init__(event_shape, batch_size, eval_batch_size, seed, workers, device, flip)
        self.root, self.cache, self.labels = Path(root).expanduser(), Path(cache).expanduser(), labels

    @abstractmethod
    def source(self) -> dict[str, Any]:
        """All that the decoded bytes depend on, as plain values: settings, and ``stamp`` of the files. Quick."""

    @abstractmethod
    def blocks(self) -> Iterator[Block]:
        """Every image once, in order within its split. Slow; called if no other process has done it."""

    def notes(self) -> dict[str, Any]:
        """What to record beside the images, as plain values, once ``blocks`` has ended."""
        return {}

    def picture(self, x: Tensor) -> Image.Image:
        return image_grid(x, levels=256)

    def load(self) -> dict[str, Split]:
        folder, found, _ = self.decoded
        splits = {}
        for name, kept in found.items():
            path = folder / f"{name}.x"
            x, label = self._mapped(folder, name, kept.size)
            if Split(label).fingerprint() != kept.label:
                raise damaged(path.with_suffix(".label"))
            if (name != "train" or [*stamp(path)] != kept.stamp) and Split(x).fingerprint() != kept.x:
                raise damaged(path)
            splits[name] = Split(x, label if self.labels else None, kept.x)
        return splits

    def provenance(self) -> dict[str, object]:
        """As for every data set, and what the decoding noted."""
        return {**super().provenance(), **self.decoded.notes}

    @cached_property
    def decoded(self) -> Decoded:
        """The folder, written if it is not there.

        Raises:
            InvalidInput: no place to write it; a folder that does not say what is in it.
        """
        place = str(self.root.resolve())  # files unpacked elsewhere may have the same names, sizes and times
        source = {"decoding": DECODING, "root": place, "shape": self.event_shape, **self.source()}
        key = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()[:16]
        folder, part = self.cache / f"{self.name}-{key}", self.cache / f".{self.name}-{key}.part"
        if not folder.exists():
            with self._keeping():
                self.cache.mkdir(parents=True, exist_ok=True)
                lock = part.with_suffix(".lock").open("w")
            with lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not folder.exists():
                    self._write(part)
                    os.rename(part, folder)
        try:
            facts = json.loads((folder / "facts.json").read_text())
            return Decoded(folder, {name: Kept(**kept) for name, kept in facts["splits"].items()}, {**facts["notes"]})
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise damaged(folder / "facts.json") from error

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InvalidInput(
                f"{self.name}: the decoded images cannot be kept in {self.cache} ({error.strerror or error}): set "
                "data.cache= to a folder with room"
            ) from error

    def _write(self, part: Path) -> None:
        with self._keeping():
            shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
            part.mkdir()
        counts = dict.fromkeys(("train", "val", "test"), 0)
        with tqdm(desc=f"decoding {self.name}, once", unit="image", dynamic_ncols=True) as bar:
            for block in self.blocks():
                with self._keeping():
                    _append(part / f"{block.split}.x", block.x)
                    _append(part / f"{block.split}.label", block.label.astype(np.int64))
                counts[block.split] += len(block.x)
                bar.update(len(block.x))
        empty = [name for name, count in counts.items() if not count]
        if empty:
            raise InvalidInput(f"{self.name}: there is no image for {', '.join(empty)} in {self.root}: give it more images")
        kept = {}
        for name, count in counts.items():
            x, label = (Split(values).fingerprint() for values in self._mapped(part, name, count))
            kept[name] = Kept(count, x, label, [*stamp(part / f"{name}.x")])._asdict()
        facts = json.dumps({"splits": kept, "notes": self.notes()}, indent=2) + "\n"
        with self._keeping():
            _append(part / "facts.json", np.frombuffer(facts.encode(), np.uint8))

    def _mapped(self, folder: Path, name: str, count: int) -> tuple[Tensor, Tensor]:
        """Images and classes of a split."""
        label = mapped(folder / f"{name}.label", (count, 8)).view(torch.int64)
        return mapped(folder / f"{name}.x", (count, *self.event_shape)), label.flatten()


def _append(path: Path, values: np.ndarray) -> None:
    with path.open("ab") as file:
        file.write(np.ascontiguousarray(values).data)
        file.flush()
        os.fsync(file.fileno())


def mapped(path: Path, shape: tuple[int, ...]) -> Tensor:
    """A file of bytes as a tensor, read where it is looked at; writing to the tensor does not reach the file.

    Raises:
        InvalidInput: a file of another size, or none.
    """
    if not path.is_file() or path.stat().st_size != math.prod(shape):
        raise damaged(path)
    return torch.from_numpy(np.memmap(path, np.uint8, mode="c", shape=shape))


def damaged(path: Path) -> InvalidInput:
    """The line about a file that is not as it was written when images were decoded."""
    return InvalidInput(f"{path} is damaged: remove {path.parent} to have it decoded again")


def stamp(path: Path) -> tuple[int, int, int]:
    """By which another file is known without reading it: size, time of last change as told, and as the system saw it.

    The last of them nobody can set. (0, 0, 0) if there is no file.
    """
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0, 0
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
