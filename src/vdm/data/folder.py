"""Any folder of images."""

import sys
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from vdm.data.decoded import Block, DecodedImages
from vdm.data.image_files import Fit, Folder, Unusable, by_key, fit_name
from vdm.errors import InvalidInput


class ImageFolder(DecodedImages):
    """Images of any size below a folder, as levels of ``event_shape``: (3, H, W) in colour or (1, H, W) in grey.

    The files are ordered by the SHA-256 of their paths; the first ``val`` of them validate, the next ``test`` of them test,
    the rest train. Files that are no whole images, have transparency, more than 8 bits a channel or far too many pixels are
    left out; their number and the reasons are told and recorded. The condition, if asked for, is the class: the place of
    the first folder of an image's path among such folders, by name.

    Args:
        fit: how a picture gets its size; see ``vdm.data.image_files``.
        val, test: shares of the files.
        order: seed of the split.
    """

    release = "a folder of images"

    def __init__(
        self,
        event_shape: tuple[int, ...],
        batch_size: int,
        eval_batch_size: int,
        root: str,
        cache: str,
        fit: Fit,
        val: float,
        test: float,
        order: int = 0,
        seed: int = 0,
        workers: int = 0,
        device: str | None = None,
        flip: bool = False,
        labels: bool = False,
    ) -> None:
        super().__init__(event_shape, batch_size, eval_batch_size, root, cache, seed, workers, device, flip, labels)
        if len(self.event_shape) != 3 or self.event_shape[0] not in (1, 3):
            raise InvalidInput(f"data.event_shape must be [3, H, W] in colour or [1, H, W] in grey, got {self.event_shape}")
        if not (val > 0 and test > 0 and val + test < 1):
            raise InvalidInput(f"data.val and data.test must be shares of the files with some left, got {val} and {test}")
        self.fit, self.val, self.test, self.order = fit, val, test, order
        self.name = self.root.resolve().name
        self.left_out: Counter[str] = Counter()

    @cached_property
    def files(self) -> Folder:
        """Those of the folder, which is looked through once."""
        if not self.root.is_dir():
            raise InvalidInput(f"there is no folder {self.root}: set data.root= to a folder of images")
        return Folder(self.root)

    def source(self) -> dict[str, Any]:
        if self.labels and not all("/" in name for name in self.files.names):
            raise InvalidInput(f"data.labels=true needs every image of {self.root} in the folder of its class")
        settings = {"fit": fit_name(self.fit), "val": self.val, "test": self.test, "order": self.order}
        return {"files": self.files.stamps(), **settings}

    def blocks(self) -> Iterator[Block]:
        names, classes = by_key(self.files.names, self.order), self._classes()
        n_val, n_test = round(self.val * len(names)), round(self.test * len(names))
        parts = {"val": names[:n_val], "test": names[n_val : n_val + n_test], "train": names[n_val + n_test :]}
        self.left_out.clear()
        for split, chosen in parts.items():
            for found in self.files.decoded(chosen, self.event_shape, self.fit):
                self.left_out.update(str(image) for _, image in found if isinstance(image, Unusable))
                usable = [(image, classes[name]) for name, image in found if not isinstance(image, Unusable)]
                if usable:
                    images, labels = zip(*usable, strict=True)
                    yield Block(split, np.stack(images), np.array(labels))
        if self.left_out:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.left_out.items()))
            print(f"{self.name}: left out of {len(names)} files in {self.root}: {reasons}", file=sys.stderr)

    def notes(self) -> dict[str, Any]:
        return {"fit": fit_name(self.fit), "left_out": dict(self.left_out)}

    def _classes(self) -> dict[str, int]:
        """Of each file; 0 for those that lie in the folder itself."""
        place = {
            folder: i for i, folder in enumerate(sorted({name.split("/")[0] for name in self.files.names if "/" in name}))
        }
        return {name: place.get(name.split("/")[0], 0) for name in self.files.names}
