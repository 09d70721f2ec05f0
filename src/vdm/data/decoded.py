"""Images that are decoded once into a folder of plain numbers, whose rows are read from then on."""

import hashlib
import json
import math
import os
import shutil
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from vdm.bars import counting_bar
from vdm.data.source import ImageSource
from vdm.data.split import Split
from vdm.data.stored import StoredRows
from vdm.errors import InvalidInput

DECODING = 2  # version of the decoder; raise it when the same files decode to other bytes


class Block(NamedTuple):
    """Decoded images (n, C, H, W) of bytes and their classes (n,), to append to a split."""

    split: str
    x: np.ndarray
    label: np.ndarray


class SplitFacts(NamedTuple):
    """Facts on a decoded split: number of images, fingerprints of its two files, stamp of the file of images."""

    size: int
    x: str
    label: str
    stamp: list[int]


class DecodedFolder(NamedTuple):
    """A folder of decoded images: facts on its splits by name, and the ``notes`` of their decoding."""

    path: Path
    splits: dict[str, SplitFacts]
    notes: dict[str, Any]


class DecodedImages(ImageSource):
    """Images of integer levels whose files are decoded once, into a folder below ``cache``.

    The folder's name depends on ``root`` and ``key()``: other files or settings have another folder. It is written beside
    its path and renamed, by one process while others wait, so it is whole or not there. Changes of its files are refused;
    training images, which may be many, are read through for that only if their file's stamp has changed.

    Args:
        root: folder of the files.
        cache: folder for decoded images; it takes as many bytes as there are pixels, times the channels.
        labels: yield the classes as conditions.
    """

    can_flip = True

    def __init__(self, event_shape: Sequence[int], root: str, cache: str, labels: bool = False) -> None:
        super().__init__(event_shape)
        self.root, self.cache, self.labels = Path(root).expanduser(), Path(cache).expanduser(), labels

    @abstractmethod
    def key(self) -> dict[str, Any]:
        """Return everything that the decoded bytes depend on, as plain values: settings and stamps of the files. Quick."""

    @abstractmethod
    def blocks(self) -> Iterator[Block]:
        """Yield every image once, in order within its split. Slow; called if no other process has decoded them."""

    def notes(self) -> dict[str, Any]:
        """Return facts to store beside the images, as plain values, once ``blocks`` has ended."""
        return {}

    def too_few(self, counts: Mapping[str, int]) -> InvalidInput:
        """Return the error for splits without an image, from the number of images of each."""
        empty = ", ".join(name for name, count in counts.items() if not count)
        return InvalidInput(f"{self.name}: there is no image for {empty} in {self.root}: give it more images")

    @property
    def dtype(self) -> Any:
        """Type of the decoded numbers."""
        return np.uint8 if self.levels <= 256 else np.uint16

    def load(self) -> dict[str, Split]:
        folder, found, _ = self.decoded
        splits = {}
        for name, facts in found.items():
            path = folder / f"{name}.x"
            split, label = self._stored(folder, name, facts.size)
            if Split(label).fingerprint() != facts.label:
                raise damaged(path.with_suffix(".label"))
            if (name != "train" or [*stamp(path)] != facts.stamp) and split.fingerprint() != facts.x:
                raise damaged(path)
            splits[name] = split._replace(condition=label if self.labels else None, known=facts.x)
        return splits

    def provenance(self) -> dict[str, object]:
        """Return the notes of the decoding."""
        return self.decoded.notes

    @cached_property
    def decoded(self) -> DecodedFolder:
        """The folder of decoded images, written if it is not there.

        Raises:
            InvalidInput: a cache that cannot be written; a folder whose facts cannot be read.
        """
        root = str(self.root.resolve())  # files unpacked elsewhere may have the same names, sizes and times
        key = {"decoding": DECODING, "root": root, "shape": self.event_shape, **self.key()}
        name = f"{self.name}-{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]}"
        folder, part = self.cache / name, self.cache / f".{name}.part"
        if not folder.exists():
            with self._writing():
                self.cache.mkdir(parents=True, exist_ok=True)
                lock = FileLock(part.with_suffix(".lock")).acquire()
            with lock:
                if not folder.exists():
                    self._write(part)
                    os.rename(part, folder)
        try:
            facts = json.loads((folder / "facts.json").read_text())
            splits = {split: SplitFacts(**found) for split, found in facts["splits"].items()}
            return DecodedFolder(folder, splits, {**facts["notes"]})
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise damaged(folder / "facts.json") from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InvalidInput(
                f"{self.name}: the decoded images cannot be stored in {self.cache} ({error.strerror or error}): set "
                "data.cache= to a folder with room"
            ) from error

    def _write(self, part: Path) -> None:
        with self._writing():
            shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
            part.mkdir()
        counts = dict.fromkeys(("train", "val", "test"), 0)
        with counting_bar(f"decoding {self.name}, once", None, "image") as bar:
            for block in self.blocks():
                with self._writing():
                    _append(part / f"{block.split}.x", block.x)
                    _append(part / f"{block.split}.label", block.label.astype(np.int64))
                counts[block.split] += len(block.x)
                bar.update(len(block.x))
        if not all(counts.values()):
            raise self.too_few(counts)
        splits = {}
        for name, count in counts.items():
            split, label = self._stored(part, name, count)
            stamps = [*stamp(part / f"{name}.x")]
            splits[name] = SplitFacts(count, split.fingerprint(), Split(label).fingerprint(), stamps)._asdict()
        facts = json.dumps({"splits": splits, "notes": self.notes()}, indent=2) + "\n"
        with self._writing():
            _append(part / "facts.json", np.frombuffer(facts.encode(), np.uint8))

    def _stored(self, folder: Path, name: str, count: int) -> tuple[Split, Tensor]:
        """Return a split without conditions, and its classes."""
        x, label = folder / f"{name}.x", folder / f"{name}.label"
        shape = (count, *self.event_shape)
        for path, size in ((label, 8 * count), (x, math.prod(shape) * np.dtype(self.dtype).itemsize)):
            if not path.is_file() or path.stat().st_size != size:
                raise damaged(path)
        return Split(StoredRows(x.open("rb"), shape, self.dtype)), torch.from_numpy(np.fromfile(label, np.int64))


def _append(path: Path, values: np.ndarray) -> None:
    with path.open("ab") as file:
        file.write(np.ascontiguousarray(values).data)
        file.flush()
        os.fsync(file.fileno())


def damaged(path: Path) -> InvalidInput:
    """Return the error for a file of decoded images that has changed since it was written."""
    return InvalidInput(f"{path} is damaged: remove {path.parent} to have it decoded again")


def stamp(path: Path) -> tuple[int, int, int]:
    """Return size, modification time and change time, to notice another file without reading it; (0, 0, 0) for none.

    No user can set the change time.
    """
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0, 0
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
