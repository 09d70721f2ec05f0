"""Any map-style data set of torch, and data sets of Hugging Face: every item is read once, into plain numbers."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch import Tensor

from vdm.buildable import buildable
from vdm.data.arrays import AnyShape, as_rows
from vdm.data.decoding import Decoding, Fit, Unusable
from vdm.data.image_files import cropped
from vdm.data.module import DataModule
from vdm.data.shares import Splitting
from vdm.data.split import Split
from vdm.data.stored import RowWriter, taken
from vdm.errors import InvalidInput, one_line

Settings = ParamSpec("Settings")

LOOKED_AT = 16  # items read in advance, which decide the scale of real numbers
USUAL = {"image": ("image", "images", "img", "x", "pixel_values"), "label": ("label", "labels", "y", "target", "fine_label")}
CLOSE = 0.02  # of a level: a number further from one is none, and float32 is closer for 65,536 of them


class Item(NamedTuple):
    """One example (*event) of a data set, and its label or None."""

    x: np.ndarray
    label: Any


class Items(Splitting):
    """How the items of a data set become examples and splits.

    Args:
        keys: of the ``image`` and the ``label`` of items that are mappings; None for the usual names.
        fit: how an opened picture gets its size; see ``vdm.data.image_files``.
        cache: folder for a file of the examples that do not fit into memory; it is gone when the process ends.
    """

    def __init__(
        self,
        val: float = 0.05,
        test: float = 0.1,
        order: int = 0,
        names: Mapping[str, str] | None = None,
        keys: Mapping[str, str] | None = None,
        fit: Fit = cropped,
        cache: str = "data/cache",
    ) -> None:
        super().__init__(val, test, order, names)
        self.keys, self.fit, self.cache = dict(keys or {}), fit, Path(cache).expanduser()

    def parts_of(self, item: Any, where: str) -> Item:
        """Return picture and label of an item: a mapping, a pair, or a picture alone."""
        if isinstance(item, Mapping):
            named = {p: self.keys.get(p) or next((name for name in USUAL[p] if name in item), None) for p in USUAL}
            if named["image"] not in item:
                raise InvalidInput(f"{where} has {', '.join(map(str, item))}: set data.keys='{{image: NAME, label: NAME}}'")
            return Item(item[named["image"]], item.get(named["label"]))
        return Item(item[0], item[1] if len(item) > 1 else None) if isinstance(item, list | tuple) else Item(item, None)


class ItemSource(AnyShape):
    """Examples of one or several data sets, by the names of their splits, each item read once.

    An item is a picture of Pillow, an array or a tensor, alone, before a label, or in a mapping. Levels may be integers,
    whole floats, or as ``ToTensor`` makes them, k/(K − 1), or shifted to −1 … 1; the first items decide which, and
    anything else is refused. Items that differ between two readings are refused.
    """

    def __init__(self, event_shape: Sequence[int], items: Items, levels: int, labels: bool) -> None:
        super().__init__(event_shape)
        self.items, self.levels, self.labels = items, levels, labels
        self.can_flip = len(self.event_shape) == 3

    @abstractmethod
    def datasets(self) -> dict[str, Any]:
        """Return data sets with items by number, by name."""

    def load(self) -> dict[str, Split]:
        found = self.datasets()
        examples, _ = self.items.parts([*found], self.name)
        whole = {split: self._read(found[name], f"{self.name}, {name}") for split, name in examples.items()}
        train, rows = whole.pop("train"), self.items.held_out(len(found[examples["train"]]), examples)
        return {split: _part(train, own) for split, own in rows.items()} | whole

    def _read(self, data: Any, where: str) -> Split:
        if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")) or not len(data):
            raise InvalidInput(f"{where} must be a data set of at least one item, by number, got {type(data).__name__}")
        seen = set[str]()
        first, again = ([self._item(data, i, where, seen) for i in range(min(len(data), LOOKED_AT))] for _ in range(2))
        if not all(np.array_equal(one.x, other.x) for one, other in zip(first, again, strict=True)):
            raise InvalidInput(
                f"{where}: an item differs between two readings: leave random transforms out (data.flip=true)"
            )
        scale, labels = self._scale(np.stack([item.x for item in first]), where), []
        kind = first[0].x.dtype if scale is None else np.dtype(np.uint8 if self.levels <= 256 else np.int32)
        rows = RowWriter((len(data), *self.event_shape), kind, self.items.cache)
        for i in range(len(data)):
            item = self._item(data, i, where, seen)
            rows.append(item.x if scale is None else scale(item.x, f"{where}, item {i}"), f"{where}, item {i}")
            labels.append(item.label)
        if len(seen) > 1:
            raise InvalidInput(f"{where}: some pictures hold 0 … {self.levels - 1}, others levels spread over 0 … 255")
        return Split(as_rows(rows.finished(), self.event_shape, where), self._conditions(labels, where))

    def _item(self, data: Any, number: int, where: str, seen: set[str]) -> Item:
        where = f"{where}, item {number}"
        try:
            picture, label = self.items.parts_of(data[number], where)
            if isinstance(picture, Image.Image):
                return Item(Decoding(self.event_shape, self.items.fit, self.levels, seen).picture(picture), label)
            array = picture.numpy(force=True) if isinstance(picture, Tensor) else np.asarray(picture)
            return Item(np.asarray(as_rows(array[None], self.event_shape, where))[0], label)
        except InvalidInput:
            raise
        except Exception as error:  # somebody else's code may raise anything
            reason = " ".join(f"{'' if isinstance(error, Unusable) else type(error).__name__ + ': '}{error}".split())[:160]
            raise InvalidInput(f"{where} cannot be used ({reason}): repair it, or leave it out") from error

    def _scale(self, x: np.ndarray, where: str) -> Callable[[np.ndarray, str], np.ndarray] | None:
        """Return what makes integer levels of real numbers, by the first examples; None where nothing has to."""
        if x.dtype.kind != "f" or self.levels == 0:
            return None
        top = self.levels - 1
        if (x == np.round(x)).all() and x.min() >= 0 and (x.max() > 1 or top == 1):
            factor, shift = 1.0, 0.0
        elif (x == np.round(x)).all() and x.min() >= 0:
            raise InvalidInput(
                f"{where}: the first items are all 0 or 1, which may be levels or black and white: give integers"
            )
        else:
            factor, shift = (top / 2, 1.0) if x.min() < 0 else (float(top), 0.0)

        def scaled(x: np.ndarray, where: str) -> np.ndarray:
            level = (x.astype(np.float64) + shift) * factor
            whole = np.round(level)
            if not (np.abs(level - whole) <= CLOSE).all() or whole.min() < 0 or whole.max() > top:
                raise InvalidInput(
                    f"{where} holds numbers that are neither levels 0 … {top} nor k/{top}, such as {x.flat[0]:.6g}: give "
                    "integer levels, unscaled and not resized after ToTensor"
                )
            return whole.astype(np.uint8 if self.levels <= 256 else np.int32)

        return scaled

    def _conditions(self, labels: Sequence[Any], where: str) -> Tensor | None:
        if not self.labels:
            return None
        try:
            found = torch.as_tensor(np.stack([np.asarray(label) for label in labels]))
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"{where}: data.labels=true, and the items have no labels that are numbers") from error
        return found.float() if found.is_floating_point() else found.long()


class DatasetSource(ItemSource):
    """The items of a map-style torch ``Dataset``, of several by their splits, or of a ``LightningDataModule``."""

    release = "a torch data set"

    def __init__(
        self, event_shape: Sequence[int], dataset: Any, items: Items, levels: int = 256, labels: bool = False
    ) -> None:
        super().__init__(event_shape, items, levels, labels)
        several = dataset if isinstance(dataset, Mapping) else {"train": dataset}
        self.given = {name: data for name, data in several.items() if data is not None}
        self.name = type(next(iter(self.given.values()))).__name__.lower()

    @classmethod
    @buildable
    def of(
        cls,
        items: Callable[Settings, Items],
        event_shape: Sequence[int],
        dataset: Any = None,
        levels: int = 256,
        labels: bool = False,
        *args: Settings.args,
        **settings: Settings.kwargs,
    ) -> "DatasetSource":
        """Build ``items`` from ``settings``, which stand beside the source's own in a config: ``data.val=…``."""
        return cls(event_shape, dataset, items(*args, **settings), levels, labels)

    def datasets(self) -> dict[str, Any]:
        only = next(iter(self.given.values()))
        return _of_module(only) if isinstance(only, LightningDataModule) else self.given


class HuggingFace(ItemSource):
    """A data set of Hugging Face: from the hub by its name, or from a folder that ``save_to_disk`` wrote.

    Args:
        name: on the hub, such as ``ylecun/mnist``; None for a folder.
        path: folder of ``save_to_disk``; None for the hub.
        subset: of a data set on the hub that has several.
    """

    release = "a Hugging Face data set"

    def __init__(
        self,
        event_shape: Sequence[int],
        items: Items,
        name: str | None = None,
        path: str | None = None,
        subset: str | None = None,
        levels: int = 256,
        labels: bool = False,
    ) -> None:
        super().__init__(event_shape, items, levels, labels)
        if (name is None) == (path is None):
            raise InvalidInput(
                "set data.name= to a data set on the hub, or data.path= to a folder of save_to_disk, not both"
            )
        self.name = Path(path).expanduser().resolve().name if path is not None else str(name)
        self.path, self.subset = path, subset

    @classmethod
    @buildable
    def of(
        cls,
        items: Callable[Settings, Items],
        event_shape: Sequence[int],
        name: str | None = None,
        path: str | None = None,
        subset: str | None = None,
        levels: int = 256,
        labels: bool = False,
        *args: Settings.args,
        **settings: Settings.kwargs,
    ) -> "HuggingFace":
        """Build ``items`` from ``settings``, which stand beside the source's own in a config: ``data.val=…``."""
        return cls(event_shape, items(*args, **settings), name, path, subset, levels, labels)

    def datasets(self) -> dict[str, Any]:
        try:
            import datasets
        except ImportError as error:
            raise InvalidInput("data=huggingface needs the package datasets: pip install vdm[datasets]") from error
        try:
            if self.path is None:
                found = datasets.load_dataset(self.name, self.subset)
            else:
                found = datasets.load_from_disk(str(Path(self.path).expanduser()))
        except Exception as error:  # a missing or broken data set may raise anything
            reason = one_line(error, 200)
            raise InvalidInput(f"{self.name} cannot be loaded ({reason}): set data.name= or data.path=") from error
        return dict(found) if isinstance(found, Mapping) else {"train": found}


@buildable
def served(
    source: Any,
    module: Callable[Settings, DataModule],
    val_source: Any = None,
    test_source: Any = None,
    *args: Settings.args,
    **settings: Settings.kwargs,
) -> DataModule:
    """Serve torch data sets: one that is split, or one for each split that there is."""
    settings["dataset"] = {"train": source, "val": val_source, "test": test_source}
    return module(*args, **settings)


def _part(split: Split, rows: np.ndarray) -> Split:
    if len(rows) == len(split.x):
        return split
    return Split(taken(split.x, rows), None if split.condition is None else split.condition[torch.from_numpy(rows)])


def _of_module(module: LightningDataModule) -> dict[str, Any]:
    """Return the data sets behind the loaders of somebody else's data module."""
    module.prepare_data()
    module.setup("fit")
    module.setup("test")
    found = {}
    for split in ("train", "val", "test"):
        try:
            loader = getattr(module, f"{split}_dataloader")()
        except Exception:  # Lightning's own raise where a module has none
            continue
        found[split] = getattr(loader, "dataset", loader)
    return found
