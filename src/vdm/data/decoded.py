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
from vdm.pictures import image_grid

DECODING = 2
"""To be raised whenever the same files come to other bytes."""


class Block(NamedTuple):
    """Decoded images (n, C, H, W) of bytes, and their classes (n,), that come next in a split."""

    split: str
    x: np.ndarray
    label: np.ndarray


class DecodedImages(InMemoryData, ABC):
    """Images of 256 levels whose files are read once, into a folder of plain bytes that is mapped into memory.

    The folder is below ``cache``, under a name made from ``source()``: other files or settings have another folder. It is
    written beside its place and renamed, by one process while others wait, so it is whole or not there.

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
        folder, facts = self.decoded
        splits = {}
        for name, (count, fingerprint) in facts["splits"].items():
            label = torch.from_numpy(np.fromfile(folder / f"{name}.label", np.int64))
            x = mapped(folder / f"{name}.x", (count, *self.event_shape))
            if name != "train" and Split(x).fingerprint() != fingerprint:
                raise InvalidInput(
                    f"{self.name}: {folder / name}.x is not what was written there: remove {folder}, and its images are "
                    "decoded again"
                )
            splits[name] = Split(x, label if self.labels else None, fingerprint)
        return splits

    def provenance(self) -> dict[str, object]:
        """As for every data set, and what the decoding noted."""
        return {**super().provenance(), **self.decoded[1]["notes"]}

    @cached_property
    def decoded(self) -> tuple[Path, dict[str, Any]]:
        """The folder, and its facts: ``splits``, size and fingerprint of each, and ``notes``."""
        source = {"decoding": DECODING, "shape": self.event_shape, **self.source()}
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
        return folder, json.loads((folder / "facts.json").read_text())

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
        splits = {name: Split(mapped(part / f"{name}.x", (n, *self.event_shape))) for name, n in counts.items()}
        facts = {"splits": {name: (len(s.x), s.fingerprint()) for name, s in splits.items()}, "notes": self.notes()}
        with self._keeping():
            (part / "facts.json").write_text(json.dumps(facts, indent=2) + "\n")


def _append(path: Path, values: np.ndarray) -> None:
    with path.open("ab") as file:
        file.write(np.ascontiguousarray(values).data)
        file.flush()
        os.fsync(file.fileno())


def mapped(path: Path, shape: tuple[int, ...]) -> Tensor:
    """A file of bytes as a tensor, read where it is looked at; writing to the tensor does not reach the file.

    Raises:
        InvalidInput: a file of another size.
    """
    if not path.is_file() or path.stat().st_size != math.prod(shape):
        raise InvalidInput(f"{path} is damaged: remove {path.parent} to have it decoded again")
    return torch.from_numpy(np.memmap(path, np.uint8, mode="c", shape=shape))


def stamp(path: Path) -> tuple[int, int]:
    """Size and time of last change, by which another file is known without reading it; (0, 0) if it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns
