"""MNIST and Fashion-MNIST: grey images of 28×28 with 256 levels, in idx files."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vdm.data.base import InMemoryData
from vdm.data.idx import find_idx, read_idx
from vdm.data.split import Split, classes, cut
from vdm.errors import InvalidInput
from vdm.pictures import image_grid

HANDWRITTEN = (
    "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
)
"""SHA-256 of MNIST's training and test images, which are not to be taken for others in the same format."""


class IdxImages(InMemoryData, ABC):
    """Four idx files, in their order.

    The first training images train, the rest of them validate, the test images test: 55,000, 5,000 and 10,000. The
    condition, if asked for, is the class 0 … 9.

    Args:
        root: folder of the files as torchvision leaves them, plain or gzipped.
        sizes: of train, val and test; they must account for every image.
        sha256: of the training and the test images' bytes, without the header; null to take any.
        download: fetch missing files into ``root`` with torchvision.
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
        size = self.sizes["train"]
        train, test = self._pair("train", size + self.sizes["val"]), self._pair("t10k", self.sizes["test"])
        return cut(train, test, size, self.labels)

    def picture(self, x: Tensor) -> Image.Image:
        return image_grid(x, levels=256)

    def _pair(self, stem: str, count: int) -> list[Tensor]:
        images, labels = (self._find(f"{stem}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
        x, label = read_idx(images), classes(read_idx(labels), 10 if self.labels else 256, labels)
        if len(x) != count or len(label) != count:
            raise InvalidInput(
                f"{self.name}: {len(x)} {stem} images and {len(label)} labels under {self.root}, where {count} of each are "
                "stated"
            )
        found, stated = hashlib.sha256(x.numpy().data).hexdigest(), self.sha256.get(stem)
        if stated is not None and found != stated:
            raise InvalidInput(
                f"{self.name}: the {stem} images under {self.root} are not {self.collection}'s (sha256 {found[:16]}…, not "
                f"{stated[:16]}…): download them again, or set data.sha256=null for others in the same format"
            )
        if found in HANDWRITTEN and self.collection != "MNIST":
            raise InvalidInput(
                f"{self.name}: the {stem} images under {self.root} are MNIST's: set data.root= to {self.collection}'s"
            )
        return [x[:, None], torch.from_numpy(label)]

    def _find(self, name: str) -> Path:
        path = find_idx(self.root, self.collection, name)
        if path is None and self.download:
            for train in (True, False):
                self.fetcher()(str(self.root), train=train, download=True)
            path = find_idx(self.root, self.collection, name)
        if path is None:
            raise InvalidInput(
                f"{self.name}: no {name} or {name}.gz in {self.root}: set data.root= to the folder of the files, or "
                "have vdm-train fetch them by data.download=true"
            )
        return path


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
