"""ImageNet at 32×32 and 64×64, in two releases with different images: their numbers cannot be compared."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from vdm.data.decoded import Block, DecodedImages, stamp
from vdm.data.image_files import Archive, Folder, ImageFiles, Unusable, as_stored, by_key
from vdm.data.split import Split, classes
from vdm.errors import InvalidInput


class SmallImageNet(DecodedImages):
    """Training images, some of which validate, and the validation images of the release, on which results are reported.

    Args:
        sizes: number of images of each split; together they must account for every image, and so identify the release. The
            other arguments are those of ``DecodedImages``.
    """

    available_from: str
    suffix = ""  # tells two releases of one size apart

    def __init__(
        self, event_shape: Sequence[int], root: str, cache: str, sizes: Mapping[str, int], labels: bool = False
    ) -> None:
        super().__init__(event_shape, root, cache, labels)
        self.sizes: Mapping[str, int] = dict(sizes)
        self.side = self.event_shape[-1]
        self.name = f"imagenet{self.side}{self.suffix}"

    def key(self) -> dict[str, Any]:
        return {"sizes": self.sizes, "files": self.stamps()}

    @abstractmethod
    def stamps(self) -> Any:
        """Return stamps of the files, as plain values, to notice other files; raise InvalidInput if one is missing."""

    def missing(self, path: Path) -> InvalidInput:
        """Return the error for a missing file or folder."""
        return InvalidInput(
            f"{self.name}: there is no {path}: set data.root= to the folder of the release, from {self.available_from}"
        )

    def check_count(self, part: str, found: int, stated: int) -> None:
        """Raise InvalidInput for a part with another number of images than its release."""
        if found != stated:
            raise InvalidInput(
                f"{self.name}: {found} {part} images in {self.root}, where this release has {stated}: fetch the missing "
                "ones, or use the data= of the other release"
            )


class ImageNetArrays(SmallImageNet):
    """Chrabaszcz, Loshchilov & Hutter (2017): npz files, 1,281,167 images to train and 50,000 to validate, box-resized.

    In the order of the files: train_data_batch_1.npz … train_data_batch_10.npz, whose last images are this project's
    validation split, and val_data.npz, its test split. The condition, if asked for, is the class 0 … 999.
    """

    release = "npz, Chrabaszcz et al. 2017"
    available_from = "https://image-net.org (Downsampled images, npz)"

    @cached_property
    def paths(self) -> list[Path]:
        """The ten training files and the validation file, in ``root`` or in a folder of it."""
        return [self._find(name) for name in (*(f"train_data_batch_{i}.npz" for i in range(1, 11)), "val_data.npz")]

    def _find(self, name: str) -> Path:
        own, below = self.root / name, sorted(self.root.glob(f"*/{name}"))
        if own.exists() or not below:
            return own
        if len(below) > 1:
            raise InvalidInput(f"{self.name}: both {below[0]} and {below[1]}: set data.root= to the folder of one release")
        return below[0]

    def stamps(self) -> Any:
        for path in self.paths:
            if not path.is_file():
                raise self.missing(path)
        return [stamp(path) for path in self.paths]

    def blocks(self) -> Iterator[Block]:
        *train, test = self.paths
        n_train, n_val, n_test = (self.sizes[split] for split in ("train", "val", "test"))
        self.check_count("training", sum(len(_labels(path)) for path in train), n_train + n_val)
        self.check_count("validation", len(_labels(test)), n_test)
        left, known = n_train, dict[str, Path]()
        for path in train:
            x, label = self._file(path)
            twin = known.setdefault(Split(torch.from_numpy(x)).fingerprint(), path)
            if twin != path:
                raise InvalidInput(
                    f"{self.name}: {path} has the images of {twin}: fetch it again, from {self.available_from}"
                )
            yield Block("train", x[:left], label[:left])
            yield Block("val", x[left:], label[left:])
            left = max(0, left - len(x))
        yield Block("test", *self._file(test))

    def _file(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        x, label = _array(path, "data"), _labels(path)
        if x.dtype != np.uint8 or x.shape != (len(label), 3 * self.side**2):
            raise InvalidInput(
                f"{self.name}: {path} holds {x.dtype} of shape {x.shape}, not bytes of ({len(label)}, {3 * self.side**2}): "
                f"fetch the release again, from {self.available_from}"
            )
        return x.reshape(-1, 3, self.side, self.side), label


class ImageNetPictures(SmallImageNet):
    """Van den Oord, Kalchbrenner & Kavukcuoglu (2016): PNG files, 1,281,149 images to train and 49,999 to validate.

    The older release, with which autoregressive models and the VDM were reported; image-net.org no longer offers it. Read
    from the folders train_SxS and valid_SxS in ``root``, or from tar archives of these names. Training images are in the
    order of the SHA-256 of their names; the first of them are this project's validation split. There are no classes.
    """

    release = "png, van den Oord et al. 2016"
    available_from = "a mirror, as image-net.org no longer offers it"
    suffix = "_oord"

    @cached_property
    def files(self) -> dict[str, ImageFiles]:
        """The image files of ``train`` and ``valid``."""
        found: dict[str, ImageFiles] = {}
        for part in ("train", "valid"):
            folder = self.root / f"{part}_{self.side}x{self.side}"
            archive = folder.with_name(f"{folder.name}.tar")
            if not folder.is_dir() and not archive.is_file():
                raise self.missing(archive)
            found[part] = Folder(folder) if folder.is_dir() else Archive(archive)
        return found

    def stamps(self) -> Any:
        if self.labels:
            raise InvalidInput(f"{self.name} has no classes: leave data.labels=true out, or use data=imagenet{self.side}")
        return [files.stamps() for files in self.files.values()]

    def blocks(self) -> Iterator[Block]:
        n_val = self.sizes["val"]
        train = self._named("train", "training", self.sizes["train"] + n_val)
        test = self._named("valid", "validation", self.sizes["test"])
        order = [train[name] for name in by_key(list(train), 0)]
        for split, part, names in (
            ("val", "train", order[:n_val]),
            ("test", "valid", [test[name] for name in sorted(test)]),
            ("train", "train", order[n_val:]),
        ):
            for found in self.files[part].decoded(names, self.event_shape, as_stored):
                bad = next((f"{name} is {image}" for name, image in found if isinstance(image, Unusable)), None)
                if bad is not None:
                    raise InvalidInput(f"{self.name}: in {self.root}, {bad}: fetch the release again")
                images = np.stack([image for _, image in found if not isinstance(image, Unusable)])
                yield Block(split, images, np.zeros(len(images), np.int64))

    def _named(self, part: str, label: str, stated: int) -> dict[str, str]:
        """Return the names of a part's images by their names without folders, which depend on how it was unpacked."""
        names = self.files[part].names
        found = {PurePosixPath(name).name: name for name in names}
        for count in (len(names), len(found)):
            self.check_count(label, count, stated)
        return found


def _labels(path: Path) -> np.ndarray:
    """Return the classes of the images of an npz file, which count from 1 there."""
    return classes(_array(path, "labels"), 1000, path, first=1)


def _array(path: Path, key: str) -> np.ndarray:
    """Return one array of an npz file; refuse a file of another format, cut short, with pickled objects, or without it."""
    try:
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array")
        with found:
            return found[key]
    except Exception as error:  # a broken file may raise anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InvalidInput(f"{path} cannot be read as an npz file with {key!r} ({reason}): fetch it again") from error
