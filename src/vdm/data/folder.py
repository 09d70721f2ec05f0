"""Any folder of images."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np

from vdm.buildable import buildable
from vdm.data.decoded import Block, DecodedImages
from vdm.data.decoding import DEEP, Decoding, Fit, Unusable
from vdm.data.image_files import ENDINGS, Folder, by_key, fit_name
from vdm.data.shares import HeldOut, Layout, layout
from vdm.errors import InvalidInput

Settings = ParamSpec("Settings")

ADVICE = {
    DEEP: "for grey pictures of 16 bits set levels=65536",
    "of 8 bits a channel, not 16": "for pictures of 8 bits set levels=256",
    "transparent": "remove the transparency",
    "of several frames or pages": "save each frame as a file",
}  # what would make use of pictures that are left out


class Shares(HeldOut):
    """Files that validate and test, chosen by the SHA-256 of their names, unless their folders say which they are.

    Args:
        val, test: shares of the files, or numbers.
        order: seed of the split.
        split_folders: see ``vdm.data.shares.layout``.
    """

    def __init__(self, val: float, test: float, order: int = 0, split_folders: str | Mapping[str, str] = "auto") -> None:
        super().__init__(val, test)
        self.order, self.split_folders = order, split_folders

    def split(self, found: Layout, names: Sequence[str]) -> dict[str, list[str]]:
        """Return the names of each split: those of its folder, or else some of the training files; these come last."""
        missing = [split for split in ("val", "test") if split not in found.names]
        train = by_key(found.names.get("train", names), self.order)
        splits = {split: found.names[split] for split in found.names if split != "train"}
        for split, size in self.sizes(len(train), missing).items():
            splits[split], train = train[:size], train[size:]
        return {**splits, "train": train}


class ImageFolder(DecodedImages):
    """Images of any size below a folder, as levels of ``event_shape``: (3, H, W) in colour or (1, H, W) in grey.

    Folders called after a split, such as ``train/`` and ``test/``, are that split; the others are held out of ``train/``.
    Files are left out if they are broken, have several frames, transparency, other than the stated levels or far too many
    pixels; their number and the reasons are printed and recorded, and so is how the files were split. The condition, if
    asked for, is the class: the index of the first folder of an image's path, besides its split's, among such folders.

    Args:
        fit: how a picture gets its size; see ``vdm.data.image_files``.
        shares: how the files are split.
        levels: 256; 65536 for grey pictures of 16 bits; K below 256 for pictures that hold 0 … K − 1. The other arguments
            are those of ``DecodedImages``.
    """

    release = "a folder of images"

    def __init__(
        self,
        event_shape: Sequence[int],
        root: str,
        cache: str,
        fit: Fit,
        shares: Shares,
        labels: bool = False,
        levels: int = 256,
    ) -> None:
        super().__init__(event_shape, root, cache, labels)
        if len(self.event_shape) != 3 or self.event_shape[0] not in (1, 3):
            raise InvalidInput(f"data.event_shape must be [3, H, W] in colour or [1, H, W] in grey, got {self.event_shape}")
        check_levels(levels, self.event_shape)
        self.fit, self.shares, self.levels = fit, shares, levels
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
        levels: int = 256,
        *args: Settings.args,
        **settings: Settings.kwargs,
    ) -> "ImageFolder":
        """Build the shares from ``settings``, which stand beside the folder's own in a config: ``data.val=…``."""
        return cls(event_shape, root, cache, fit, shares(*args, **settings), labels, levels)

    @cached_property
    def files(self) -> Folder:
        """The image files, listed once."""
        if not self.root.is_dir():
            raise InvalidInput(f"there is no folder {self.root}: set data.root= to a folder of images")
        files = Folder(self.root)
        if not files.names:
            raise InvalidInput(f"there is no image in {self.root}: {other_files(self.root)}")
        return files

    @cached_property
    def layout(self) -> Layout:
        """The files by the split that their folders name."""
        return layout(self.files.names, self.shares.split_folders)

    def key(self) -> dict[str, Any]:
        used = [name for names in self.layout.names.values() for name in names] or self.files.names
        if self.labels and not all(self.layout.inner(name) for name in used):
            raise InvalidInput(f"data.labels=true needs every image of {self.root} in the folder of its class")
        settings = {"fit": fit_name(self.fit), "levels": self.levels, **vars(self.shares)}
        return {"files": self.files.stamps(), **settings}

    def blocks(self) -> Iterator[Block]:
        first = {name: (self.layout.inner(name) or [""])[0] for name in self.files.names}
        index = {folder: i for i, folder in enumerate(sorted({*first.values()} - {""}))}
        decoding = Decoding(self.event_shape, self.fit, self.levels, set())
        self.left_out = Counter(
            {"outside the folders of the splits": len(self.layout.outside)} if self.layout.outside else {}
        )
        for split, names in self.shares.split(self.layout, self.files.names).items():
            for found in self.files.decoded(names, decoding.content):
                self.left_out.update(str(image) for _, image in found if isinstance(image, Unusable))
                usable = [(image, index.get(first[name], 0)) for name, image in found if not isinstance(image, Unusable)]
                if usable:
                    images, labels = zip(*usable, strict=True)
                    yield Block(split, np.stack(images), np.array(labels))
        if len(decoding.seen) > 1:
            raise InvalidInput(
                f"{self.name}: some images of {self.root} hold 0 … {self.levels - 1}, others {self.levels} levels spread "
                "over 0 … 255: convert one kind to the other"
            )
        said = [f"{split} is {folder}/" for split, folder in self.layout.folders.items()]
        said += [f"left out of {len(self.files.names)} files: {self._reasons()}"] if self.left_out else []
        if said:
            print(f"{self.name}, in {self.root}: {', '.join(said)}", file=sys.stderr)

    def too_few(self, counts: Mapping[str, int]) -> InvalidInput:
        empty = ", ".join(name for name, count in counts.items() if not count)
        reasons = [reason for reason in self.left_out if reason in ADVICE]
        advice = "; ".join(ADVICE[reason] for reason in reasons) or "give it more images"
        left = f"left out: {self._reasons()}; " if self.left_out else ""
        return InvalidInput(
            f"{self.name}: there is no image for {empty} among the {len(self.files.names)} files in {self.root}; "
            f"{left}{advice}"
        )

    def _reasons(self) -> str:
        return ", ".join(f"{count} {reason}" for reason, count in sorted(self.left_out.items()))

    def notes(self) -> dict[str, Any]:
        missing = {split: "held out of train, by name" for split in ("val", "test") if split not in self.layout.names}
        split = {**self.layout.folders, **missing} if self.layout.folders else "by name"
        return {"fit": fit_name(self.fit), "left_out": dict(self.left_out), "split": split}

    def file_names(self, split: str) -> list[str]:
        """Paths below the folder; running numbers if files were left out, since it is not recorded which."""
        if any(self.decoded.notes["left_out"].values()):
            return [f"{number:06d}" for number in range(self.decoded.splits[split].size)]
        return self.shares.split(self.layout, self.files.names)[split]


def check_levels(levels: int, event_shape: tuple[int, ...]) -> None:
    """Raise InvalidInput for levels that pictures of this shape cannot have."""
    if not 2 <= levels <= 65536:
        raise InvalidInput(f"levels must be between 2 and 65536 for pictures, got {levels}")
    if levels > 256 and event_shape[0] != 1:
        raise InvalidInput(
            f"levels={levels}: pictures of more than 8 bits are read in grey only, data.event_shape=[1,H,W]; save others as "
            "arrays, data=array"
        )


def other_files(root: Path) -> str:
    """Say which kinds of files a folder without images holds, and what would read them."""
    kinds = Counter(path.suffix.lower() or "no ending" for path in islice(root.rglob("*"), 100_000) if path.is_file())
    if not kinds:
        return "it holds no files"
    held = ", ".join(f"{count} of {kind}" for kind, count in kinds.most_common(4))
    arrays = {".npy", ".npz"} & kinds.keys()
    return f"it holds {held}; " + (
        f"train on arrays with data=array data.path={root}" if arrays else f"images end in {', '.join(ENDINGS)}"
    )
