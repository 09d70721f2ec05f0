"""MNIST: handwritten digits, grey images of 28×28 with 256 levels."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from PIL import Image
from torch import Tensor

from vdm.data.base import InMemoryData, Split
from vdm.data.idx import find_idx, read_idx
from vdm.errors import InvalidInput
from vdm.pictures import image_grid


class MNIST(InMemoryData):
    """LeCun, Cortes & Burges (1998), in the order of its files.

    The first training images train, the rest of them validate, the test images test: 55,000, 5,000 and 10,000. The
    condition, if asked for, is the class 0 … 9.

    Args:
        root: folder of the four idx files as torchvision leaves them, plain or gzipped.
        sizes: of train, val and test; they must account for every image.
        sha256: of the training and the test images' bytes, without the header; null to take any.
        download: fetch missing files into ``root`` with torchvision.
        labels: yield the classes as conditions.
    """

    name = "mnist"

    def __init__(
        self,
        event_shape: tuple[int, ...],
        batch_size: int,
        eval_batch_size: int,
        root: str,
        sizes: Mapping[str, int],
        sha256: Mapping[str, str] | None = None,
        seed: int = 0,
        download: bool = False,
        labels: bool = False,
    ) -> None:
        super().__init__(event_shape, batch_size, eval_batch_size, seed)
        self.root, self.sizes, self.sha256 = Path(root).expanduser(), dict(sizes), dict(sha256 or {})
        self.download, self.labels = download, labels

    def load(self) -> dict[str, Split]:
        cut = self.sizes["train"]
        train, test = self._pair("train", cut + self.sizes["val"]), self._pair("t10k", self.sizes["test"])
        parts = {"train": [part[:cut] for part in train], "val": [part[cut:] for part in train], "test": test}
        return {name: Split(x[:, None], label.long() if self.labels else None) for name, (x, label) in parts.items()}

    def picture(self, x: Tensor) -> Image.Image:
        return image_grid(x, levels=256)

    def _pair(self, stem: str, count: int) -> list[Tensor]:
        x, label = (read_idx(self._find(f"{stem}-{kind}-ubyte")) for kind in ("images-idx3", "labels-idx1"))
        if len(x) != count or len(label) != count:
            raise InvalidInput(
                f"mnist: {len(x)} {stem} images and {len(label)} labels under {self.root}, where {count} of each are stated"
            )
        found, stated = hashlib.sha256(x.numpy().tobytes()).hexdigest(), self.sha256.get(stem)
        if stated is not None and found != stated:
            raise InvalidInput(
                f"mnist: the {stem} images under {self.root} are not MNIST's (sha256 {found[:16]}…, not {stated[:16]}…): "
                "download them again, or set data.sha256=null for others in the same format"
            )
        return [x, label]

    def _find(self, name: str) -> Path:
        path = find_idx(self.root, name)
        if path is None and self.download:
            from torchvision import datasets

            for train in (True, False):
                datasets.MNIST(str(self.root), train=train, download=True)
            path = find_idx(self.root, name)
        if path is None:
            raise InvalidInput(
                f"mnist: no {name} or {name}.gz in {self.root}: set data.root= to the folder of the files, or "
                "data.download=true to fetch them"
            )
        return path
