"""MNIST and Fashion-MNIST: grey images of 28×28 with 256 levels, in idx files.

An idx file is a header of big-endian numbers, then bytes.
"""

import gzip
import hashlib
import math
import struct
import zlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vdm.data.downloads import DownloadedImages, File
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


def read_idx(path: Path) -> Tensor:
    """Return a uint8 tensor of one to four dimensions, in the shape of the header; a name in .gz means a gzipped file.

    Raises:
        InvalidInput: a file of another format, of another type than bytes, or cut short.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInput(f"{path} cannot be read ({error}): download it again") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08" or not 1 <= content[3] <= 4:
        raise InvalidInput(
            f"{path} is not an idx file of bytes: its first bytes are {content[:4].hex(' ')}, not 00 00 08 and 01 … 04"
        )
    start = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:start]) if len(content) >= start else ()
    values = np.frombuffer(content, np.uint8, offset=min(start, len(content)))
    if len(content) < start or values.size != math.prod(shape):
        raise InvalidInput(f"{path} is cut short or too long: {values.size} bytes of data, where its header says {shape}")
    return torch.from_numpy(values.reshape(shape).copy())
