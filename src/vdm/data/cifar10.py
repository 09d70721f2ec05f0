"""CIFAR-10: colour images of 32×32 with 256 levels."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vdm.data.downloads import DownloadedImages, File
from vdm.data.pickled import read_pickled
from vdm.data.split import classes
from vdm.data.stored import whole
from vdm.errors import InvalidInput

LARGEST = 2**28  # bytes of a file
PARTS = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}


class CIFAR10(DownloadedImages):
    """Krizhevsky (2009), in the order of the files of the Python version.

    Args:
        md5: of each file; null to accept any. The other arguments are those of ``DownloadedImages``.
    """

    name = "cifar10"
    release = "Python version, Krizhevsky 2009"
    collection = "CIFAR10"
    url = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    folders = ("cifar-10-batches-py", ".")
    files = (*PARTS["train"], *PARTS["test"])
    algorithm = "md5"
    can_flip = True

    def __init__(
        self,
        event_shape: Sequence[int],
        root: str,
        sizes: Mapping[str, int],
        md5: Mapping[str, str] | None = None,
        download: bool = False,
        labels: bool = False,
    ) -> None:
        super().__init__(event_shape, root, sizes, md5, download, labels)

    def read(self, path: Path) -> File:
        content = whole(path, LARGEST)
        return File(path, hashlib.md5(content, usedforsecurity=False).hexdigest(), read_pickled(content, str(path)))

    def part(self, name: str, files: Mapping[str, File]) -> list[Tensor]:
        arrays = zip(*(self._arrays(file, files[file]) for file in PARTS[name]), strict=True)
        return [torch.from_numpy(np.concatenate(array)) for array in arrays]

    def _arrays(self, name: str, file: File) -> tuple[np.ndarray, np.ndarray]:
        """Return images (n, 3, 32, 32) and classes (n,) of one file."""
        self.check_digest(name, file)
        x, label = file.content.get(b"data"), file.content.get(b"labels")
        if isinstance(x, np.ndarray) and isinstance(label, list) and x.shape == (len(label), 3 * 32 * 32):
            return x.reshape(-1, 3, 32, 32), classes(label, 10, file.path) if self.labels else np.zeros(len(x), np.int64)
        raise InvalidInput(
            f"cifar10: {file.path} does not hold images of 3×32×32 and their labels: download {self.url} again, or write "
            "data, uint8 of shape (n, 3072), and labels, a list of n"
        )
