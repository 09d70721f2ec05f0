"""CIFAR-10: colour images of 32×32 with 256 levels."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vdm.data.base import InMemoryData
from vdm.data.fetch import read_or_fetch
from vdm.data.pickled import read_pickled
from vdm.data.split import Split, classes, cut
from vdm.errors import InvalidInput
from vdm.plots.images import image_grid

FOLDER = "cifar-10-batches-py"

TRAIN, TEST = tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",)

SOURCE = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"


class File(NamedTuple):
    """Where it is, its MD5, and the dictionary in it."""

    path: Path
    md5: str
    held: dict[bytes, Any]


class CIFAR10(InMemoryData):
    """Krizhevsky (2009), in the order of the files of the Python version.

    The first training images train, the rest of them validate, the test batch tests. The condition, if asked for, is the
    class 0 … 9.

    Args:
        root: folder of data_batch_1 … data_batch_5 and test_batch, or the one above it.
        sizes: of train, val and test; they must account for every image.
        md5: of each file; null to take any.
        download: fetch files that are missing or broken into ``root`` with torchvision.
        labels: yield the classes as conditions.
    """

    name = "cifar10"
    release = "Python version, Krizhevsky 2009"

    def __init__(
        self,
        event_shape: tuple[int, ...],
        batch_size: int,
        eval_batch_size: int,
        root: str,
        sizes: Mapping[str, int],
        md5: Mapping[str, str] | None = None,
        seed: int = 0,
        workers: int = 0,
        device: str | None = None,
        flip: bool = False,
        download: bool = False,
        labels: bool = False,
    ) -> None:
        super().__init__(event_shape, batch_size, eval_batch_size, seed, workers, device, flip)
        self.root, self.sizes, self.md5 = Path(root).expanduser(), dict(sizes), dict(md5 or {})
        self.download, self.labels = download, labels

    def load(self) -> dict[str, Split]:
        size, files = self.sizes["train"], self._fetched() if self.download else self._read()
        train = self._images(TRAIN, files, size + self.sizes["val"])
        return cut(train, self._images(TEST, files, self.sizes["test"]), size, self.labels)

    def picture(self, x: Tensor) -> Image.Image:
        return image_grid(x, levels=256)

    def _images(self, names: tuple[str, ...], files: dict[str, File], count: int) -> list[Tensor]:
        x, label = (np.concatenate(part) for part in zip(*(self._checked(name, files[name]) for name in names), strict=True))
        if len(x) != count:
            raise InvalidInput(f"cifar10: {len(x)} images in {', '.join(names)} under {self.root}, where {count} are stated")
        return [torch.from_numpy(x), torch.from_numpy(label)]

    def _checked(self, name: str, file: File) -> tuple[np.ndarray, np.ndarray]:
        """Images (n, 3, 32, 32) and classes (n,) of one file."""
        path, stated = file.path, self.md5.get(name)
        if stated is not None and file.md5 != stated:
            raise InvalidInput(
                f"cifar10: {path} is not CIFAR-10's (md5 {file.md5}, not {stated}): remove it and set data.download=true, "
                "or set data.md5=null for others in the same format"
            )
        x, label = file.held.get(b"data"), file.held.get(b"labels")
        if isinstance(x, np.ndarray) and isinstance(label, list) and x.shape == (len(label), 3 * 32 * 32):
            return x.reshape(-1, 3, 32, 32), classes(label, 10, path) if self.labels else np.zeros(len(x), np.int64)
        raise InvalidInput(
            f"cifar10: {path} does not hold images of 3×32×32 and their labels: download {SOURCE} again, or "
            "give it data, uint8 of shape (n, 3072), and labels, a list of n"
        )

    def _fetched(self) -> dict[str, File]:
        from torchvision import datasets

        return read_or_fetch(self._read, self.root, FOLDER, lambda folder: datasets.CIFAR10(folder, download=True), SOURCE)

    def _read(self) -> dict[str, File]:
        """All of the files."""
        return {name: self._file(name) for name in (*TRAIN, *TEST)}

    def _file(self, name: str) -> File:
        folder = next((f for f in (self.root / FOLDER, self.root) if (f / name).is_file()), None)
        if folder is None:
            raise InvalidInput(
                f"cifar10: no {name} in {self.root} or {self.root / FOLDER}: unpack {SOURCE} there and set data.root=, or "
                "have vdm-train fetch it by data.download=true"
            )
        path = folder / name
        content = path.read_bytes()
        return File(path, hashlib.md5(content, usedforsecurity=False).hexdigest(), read_pickled(content, str(path)))
