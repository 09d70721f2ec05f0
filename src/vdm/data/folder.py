"""Any folder of images."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, ParamSpec

import numpy as np

from vdm.buildable import buildable
from vdm.data.decoded import Block, DecodedImages
from vdm.data.image_files import Fit, Folder, Unusable, by_key, fit_name
from vdm.errors import InvalidInput

Settings = ParamSpec("Settings")


class Shares:
    """Shares of the files that validate and test, chosen by the SHA-256 of their names; the rest train.

    Args:
        val, test: shares of the files.
        order: seed of the split.
    """

    def __init__(self, val: float, test: float, order: int = 0) -> None:
        if not (val > 0 and test > 0 and val + test < 1):
            raise InvalidInput(f"data.val and data.test must be shares of the files with some left, got {val} and {test}")
        self.val, self.test, self.order = val, test, order

    def split(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Return the names of each split."""
        names = by_key(names, self.order)
        n_val, n_test = round(self.val * len(names)), round(self.test * len(names))
        return {"val": names[:n_val], "test": names[n_val : n_val + n_test], "train": names[n_val + n_test :]}


class ImageFolder(DecodedImages):
    """Images of any size below a folder, as levels of ``event_shape``: (3, H, W) in colour or (1, H, W) in grey.

    Files are left out if they are broken, have transparency, more than 8 bits a channel or far too many pixels; their number
    and the reasons are printed and recorded. The condition, if asked for, is the class: the index of the first folder of an
    image's path among such folders, by name.

    Args:
        fit: how a picture gets its size; see ``vdm.data.image_files``.
        shares: how the files are split. The other arguments are those of ``DecodedImages``.
    """

    release = "a folder of images"

    def __init__(
        self, event_shape: Sequence[int], root: str, cache: str, fit: Fit, shares: Shares, labels: bool = False
    ) -> None:
        super().__init__(event_shape, root, cache, labels)
        if len(self.event_shape) != 3 or self.event_shape[0] not in (1, 3):
            raise InvalidInput(f"data.event_shape must be [3, H, W] in colour or [1, H, W] in grey, got {self.event_shape}")
        self.fit, self.shares = fit, shares
        self.name = self.root.resolve().name
        self.left_out: Counter[str] = Counter()

    @classmethod
    @buildable
    def of(
        cls,
        shares: Callable[Settings, Shares],
        event_shape: Sequence[int],
        root: str,
        cache: str,
        fit: Fit,
        labels: bool = False,
        *args: Settings.args,
        **settings: Settings.kwargs,
    ) -> "ImageFolder":
        """Build the shares from ``settings``, which stand beside the folder's own in a config: ``data.val=…``."""
        return cls(event_shape, root, cache, fit, shares(*args, **settings), labels)

    @cached_property
    def files(self) -> Folder:
        """The image files, listed once."""
        if not self.root.is_dir():
            raise InvalidInput(f"there is no folder {self.root}: set data.root= to a folder of images")
        return Folder(self.root)

    def key(self) -> dict[str, Any]:
        if self.labels and not all("/" in name for name in self.files.names):
            raise InvalidInput(f"data.labels=true needs every image of {self.root} in the folder of its class")
        settings = {"fit": fit_name(self.fit), **vars(self.shares)}
        return {"files": self.files.stamps(), **settings}

    def blocks(self) -> Iterator[Block]:
        folders = sorted({name.split("/")[0] for name in self.files.names if "/" in name})
        index = {folder: i for i, folder in enumerate(folders)}
        self.left_out.clear()
        for split, names in self.shares.split(self.files.names).items():
            for found in self.files.decoded(names, self.event_shape, self.fit):
                self.left_out.update(str(image) for _, image in found if isinstance(image, Unusable))
                usable = [
                    (image, index.get(name.split("/")[0], 0)) for name, image in found if not isinstance(image, Unusable)
                ]
                if usable:
                    images, labels = zip(*usable, strict=True)
                    yield Block(split, np.stack(images), np.array(labels))
        if self.left_out:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.left_out.items()))
            print(f"{self.name}: left out of {len(self.files.names)} files in {self.root}: {reasons}", file=sys.stderr)

    def notes(self) -> dict[str, Any]:
        return {"fit": fit_name(self.fit), "left_out": dict(self.left_out)}

    def file_names(self, split: str) -> list[str]:
        """Paths below the folder; running numbers if files were left out, since it is not recorded which."""
        if any(self.decoded.notes["left_out"].values()):
            return [f"{number:06d}" for number in range(self.decoded.splits[split].size)]
        return self.shares.split(self.files.names)[split]
