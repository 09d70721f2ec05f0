"""CIFAR-10: colour images of 32×32 with 256 levels."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vdm.data.base import InMemoryData
from vdm.data.pickled import read_pickled
from vdm.data.split import Split, classes, cut
from vdm.errors import InvalidInput
from vdm.pictures import image_grid

FOLDER = "cifar-10-batches-py"
TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
SOURCE = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"


class CIFAR10(InMemoryData):
    """Krizhevsky (2009), in the order of the files of the Python version.

    The first training images train, the rest of them validate, the test batch tests. The condition, if asked for, is the
    class 0 … 9.

    Args:
        root: folder of data_batch_1 … data_batch_5 and test_batch, or the one above it.
        sizes: of train, val and test; they must account for every image.
        md5: of each file; null to take any.
        download: fetch missing files into ``root`` with torchvision.
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
        size = self.sizes["train"]
        train, test = self._files(TRAIN, size + self.sizes["val"]), self._files(("test_batch",), self.sizes["test"])
        return cut(train, test, size, self.labels)

    def picture(self, x: Tensor) -> Image.Image:
        return image_grid(x, levels=256)

    def _files(self, names: tuple[str, ...], count: int) -> list[Tensor]:
        parts = [self._file(name) for name in names]
        x, label = (np.concatenate(part) for part in zip(*parts, strict=True))
        if len(x) != count:
            raise InvalidInput(f"cifar10: {len(x)} images in {', '.join(names)} under {self.root}, where {count} are stated")
        return [torch.from_numpy(x), torch.from_numpy(label)]

    def _file(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Images (n, 3, 32, 32) and classes (n,) of one file."""
        path = self._find(name)
        content = path.read_bytes()
        found, stated = hashlib.md5(content, usedforsecurity=False).hexdigest(), self.md5.get(name)
        if stated is not None and found != stated:
            raise InvalidInput(
                f"cifar10: {path} is not CIFAR-10's (md5 {found}, not {stated}): download {SOURCE} again, or set "
                "data.md5=null for others in the same format"
            )
        held = read_pickled(content, str(path))
        x, label = held.get(b"data"), held.get(b"labels")
        if isinstance(x, np.ndarray) and isinstance(label, list) and x.shape == (len(label), 3 * 32 * 32):
            return x.reshape(-1, 3, 32, 32), classes(label, 10, path) if self.labels else np.zeros(len(x), np.int64)
        raise InvalidInput(f"cifar10: {path} does not hold images of 3×32×32 and their labels: download {SOURCE} again")

    def _find(self, name: str) -> Path:
        folder = next((f for f in (self.root, self.root / FOLDER) if (f / name).is_file()), None)
        if folder is None and self.download:
            from torchvision import datasets

            datasets.CIFAR10(str(self.root), download=True)
            folder = self.root / FOLDER
        if folder is None:
            raise InvalidInput(
                f"cifar10: no {name} in {self.root} or {self.root / FOLDER}: unpack {SOURCE} there and set data.root=, or "
                "have vdm-train fetch it by data.download=true"
            )
        return folder / name
