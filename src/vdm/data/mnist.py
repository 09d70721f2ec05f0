"""MNIST and Fashion-MNIST: grey images of 28×28 with 256 levels, in idx files."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from vdm.data.base import InMemoryData
from vdm.data.fetch import read_or_fetch
from vdm.data.idx import find_idx, read_idx
from vdm.data.split import Split, classes, cut
from vdm.errors import InvalidInput
from vdm.plots.images import image_grid

FILES = tuple(f"{stem}-{kind}-ubyte" for stem in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))

HANDWRITTEN = (
    "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
)
"""SHA-256 of MNIST's training and test images, which are not to be taken for others in the same format."""


class File(NamedTuple):
    """Where it is, and what is in it."""

    path: Path
    held: Tensor


class IdxImages(InMemoryData, ABC):
    """Four idx files, in their order.

    The first training images train, the rest of them validate, the test images test: 55,000, 5,000 and 10,000. The
    condition, if asked for, is the class 0 … 9.

    Args:
        root: folder of the files as torchvision leaves them, plain or gzipped.
        sizes: of train, val and test; they must account for every image.
        sha256: of the training and the test images' bytes, without the header; null to take any.
        download: fetch files that are missing or broken into ``root`` with torchvision.
        labels: yield the classes as conditions.
    """

    collection: str
    """torchvision's name for it, and for its folder."""

    def __init__(
        self,
        event_shape: tuple[int, ...],
        batch_size: int,
        eval_batch_size: int,
        root: str,
        sizes: Mapping[str, int],
        sha256: Mapping[str, str] | None = None,
        seed: int = 0,
        workers: int = 0,
        device: str | None = None,
        download: bool = False,
        labels: bool = False,
    ) -> None:
        super().__init__(event_shape, batch_size, eval_batch_size, seed, workers, device)
        self.root, self.sizes, self.sha256 = Path(root).expanduser(), dict(sizes), dict(sha256 or {})
        self.download, self.labels = download, labels

    @abstractmethod
    def fetcher(self) -> Any:
        """torchvision's class that downloads the files; imported only here."""

    def load(self) -> dict[str, Split]:
        size, files = self.sizes["train"], self._fetched() if self.download else self._read()
        train, test = self._pair("train", files, size + self.sizes["val"]), self._pair("t10k", files, self.sizes["test"])
        return cut(train, test, size, self.labels)

    def picture(self, x: Tensor) -> Image.Image:
        return image_grid(x, levels=256)

    def _pair(self, stem: str, files: dict[str, File], count: int) -> list[Tensor]:
        (_, x), (path, label) = files[f"{stem}-images-idx3-ubyte"], files[f"{stem}-labels-idx1-ubyte"]
        label = torch.from_numpy(classes(label, 10 if self.labels else 256, path))
        if len(x) != count or len(label) != count:
            raise InvalidInput(
                f"{self.name}: {len(x)} {stem} images and {len(label)} labels under {self.root}, where {count} of each are "
                "stated"
            )
        found, stated = hashlib.sha256(x.numpy().data).hexdigest(), self.sha256.get(stem)
        if stated is not None and found != stated:
            raise InvalidInput(
                f"{self.name}: the {stem} images under {self.root} are not {self.collection}'s (sha256 {found[:16]}…, not "
                f"{stated[:16]}…): remove them and set data.download=true, or set data.sha256=null for others in the same "
                "format"
            )
        if found in HANDWRITTEN and self.collection != "MNIST":
            raise InvalidInput(
                f"{self.name}: the {stem} images under {self.root} are MNIST's: set data.root= to {self.collection}'s"
            )
        return [x[:, None], label]

    def _fetched(self) -> dict[str, File]:
        kind = self.fetcher()
        place, source = f"{self.collection}/raw", kind.mirrors[0]
        return read_or_fetch(self._read, self.root, place, lambda folder: kind(folder, download=True), source)

    def _read(self) -> dict[str, File]:
        """All of the files."""
        return {name: self._file(name) for name in FILES}

    def _file(self, name: str) -> File:
        path = find_idx(self.root, self.collection, name)
        if path is None:
            raise InvalidInput(
                f"{self.name}: no {name} or {name}.gz in {self.root}: set data.root= to the folder of the files, or "
                "have vdm-train fetch them by data.download=true"
            )
        return File(path, read_idx(path))


class MNIST(IdxImages):
    """Handwritten digits (LeCun, Cortes & Burges 1998)."""

    name = "mnist"
    release = "idx files, LeCun, Cortes & Burges 1998"
    collection = "MNIST"

    def fetcher(self) -> Any:
        from torchvision import datasets

        return datasets.MNIST


class FashionMNIST(IdxImages):
    """Articles of clothing (Xiao, Rasul & Vollgraf 2017)."""

    name = "fashion_mnist"
    release = "idx files, Zalando Research 2017"
    collection = "FashionMNIST"

    def fetcher(self) -> Any:
        from torchvision import datasets

        return datasets.FashionMNIST
