"""MNIST and Fashion-MNIST: grey images of 28×28 with 256 levels, in idx files."""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vdm.data.downloads import DownloadedImages, File
from vdm.data.idx import read_idx
from vdm.data.split import classes
from vdm.errors import InvalidInput

STEMS = {"train": "train", "test": "t10k"}
IMAGES, LABELS = "-images-idx3-ubyte", "-labels-idx1-ubyte"

HANDWRITTEN = (
    "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
)
"""SHA-256 of MNIST's training and test images, to refuse them where other data in the same format are meant."""


class IdxImages(DownloadedImages):
    """Four idx files, plain or gzipped.

    Args:
        sha256: of the bytes of the training and the test images, without the header, under ``train`` and ``t10k``; null to
            accept any. The other arguments are those of ``DownloadedImages``.
    """

    endings = ("", ".gz")
    files = tuple(stem + kind for stem in STEMS.values() for kind in (IMAGES, LABELS))
    algorithm = "sha256"

    def __init__(
        self,
        event_shape: Sequence[int],
        root: str,
        sizes: Mapping[str, int],
        sha256: Mapping[str, str] | None = None,
        download: bool = False,
        labels: bool = False,
    ) -> None:
        super().__init__(event_shape, root, sizes, sha256, download, labels)

    def read(self, path: Path) -> File:
        values = read_idx(path)
        return File(path, hashlib.sha256(values.numpy().data).hexdigest(), values)

    def part(self, name: str, files: Mapping[str, File]) -> list[Tensor]:
        stem = STEMS[name]
        images, labels = files[stem + IMAGES], files[stem + LABELS]
        self.check_images(stem, images)
        label = torch.from_numpy(classes(labels.content, 10 if self.labels else 256, labels.path))
        return [images.content[:, None], label]

    @abstractmethod
    def check_images(self, key: str, images: File) -> None:
        """Raise InvalidInput for images of another data set."""


class MNIST(IdxImages):
    """Handwritten digits (LeCun, Cortes & Burges 1998)."""

    name = "mnist"
    release = "idx files, LeCun, Cortes & Burges 1998"
    collection = "MNIST"
    url = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    folders = ("MNIST/raw", "raw", ".")

    def check_images(self, key: str, images: File) -> None:
        self.check_digest(key, images)


class FashionMNIST(IdxImages):
    """Articles of clothing (Xiao, Rasul & Vollgraf 2017)."""

    name = "fashion_mnist"
    release = "idx files, Zalando Research 2017"
    collection = "FashionMNIST"
    url = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    folders = ("FashionMNIST/raw", "raw", ".")

    def check_images(self, key: str, images: File) -> None:
        self.check_digest(key, images)
        if images.digest in HANDWRITTEN:
            raise InvalidInput(f"{self.name}: {images.path} holds MNIST's images: set data.root= to {self.collection}'s")
