"""Splits of data without predefined ones: by the names of folders, or by shares of the examples."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vdm.errors import InvalidInput, did_you_mean

SPLITS = ("train", "val", "test")
NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
NEUTRAL = {"set", "data", "dataset", "split", "image", "images", "img", "imgs", "picture", "pictures", "photos", "x"}
LABELS = {"label", "labels", "y", "target", "targets", "class", "classes"}
SAY = "set data.names='{train: NAME, test: NAME, train_labels: NAME}'"


def split_named(name: str) -> str | None:
    """Return the split that a folder, a file or a key is called after, as ``Validation`` or ``train_32x32``; else None."""
    words = re.findall("[a-z]+", name.lower())
    found = [NAMES[word] for word in words if word in NAMES]
    return found[0] if len(found) == 1 and all(word in NAMES or word in NEUTRAL for word in words) else None


def says_split(name: str) -> bool:
    """Return whether the name of a file is that of a split, or of its labels."""
    return any(word in NAMES for word in re.findall("[a-z]+", name.lower()))


class HeldOut:
    """Numbers of examples to hold out of the others for splits that are not there.

    Args:
        val, test: share of the examples that validate and test, or their number if it is 1 or more.
    """

    def __init__(self, val: float, test: float) -> None:
        if not (val > 0 and test > 0 and (val if val < 1 else 0) + (test if test < 1 else 0) < 1):
            raise InvalidInput(
                f"data.val and data.test must be shares of the examples with some left, or numbers, got {val} and {test}"
            )
        self.val, self.test = val, test

    def sizes(self, n: int, missing: Iterable[str] = ("val", "test")) -> dict[str, int]:
        """Return how many of ``n`` examples to hold out for each missing split.

        Raises:
            InvalidInput: none left, or none for a split; with numbers that would do.
        """
        asked = {name: getattr(self, name) for name in missing}
        found = {name: round(share * n) if share < 1 else int(share) for name, share in asked.items()}
        if min([*found.values(), n - sum(found.values())], default=0) < 1:
            shared = ", ".join(f"data.{name}={share:g} gives {found[name]}" for name, share in asked.items())
            enough = f"set {' '.join(f'data.{name}=1' for name in asked)} or more" if n > len(found) else "add examples"
            raise InvalidInput(f"{n} examples cannot be split ({shared}), and each split needs at least one: {enough}")
        return found


class Layout(NamedTuple):
    """Files by the split that their folders name.

    names: of each split that is there; empty where no folders name any. outside: files in none of them. folders: the name of
    each split's folder.
    """

    names: dict[str, list[str]]
    outside: list[str]
    folders: dict[str, str]

    def inner(self, name: str) -> list[str]:
        """Return the folders of a file without the one of its split."""
        return [part for part in name.split("/")[:-1] if part not in self.folders.values()]


def layout(names: Sequence[str], folders: str | Mapping[str, str] = "auto") -> Layout:
    """Sort files by the folders in their paths.

    Args:
        folders: ``auto`` for those that are called after a split, ``none`` for no folders, or the name of each split's; the
            rest trains if there is none for train.

    Raises:
        InvalidInput: folders from which the splits cannot be told.
    """
    if folders == "none":
        return Layout({}, [], {})
    own = {} if isinstance(folders, str) else {str(folder): split for split, folder in folders.items()}
    if (isinstance(folders, str) and folders != "auto") or not set(own.values()) <= {*SPLITS}:
        raise InvalidInput(f"data.split_folders must be auto, none, or folders of {', '.join(SPLITS)}, got {folders}")
    found, outside, known = dict[str, list[str]](), list[str](), dict[str, set[str]]()
    for name in names:
        parts = {part: own.get(part) if own else split_named(part) for part in name.split("/")[:-1]}
        named = {part: split for part, split in parts.items() if split is not None}
        if len(set(named.values())) > 1:
            raise _unclear(f"{name} lies in folders of two splits")
        for part, split in named.items():
            known.setdefault(split, set()).add(part)
        found.setdefault(next(iter(named.values())), []).append(name) if named else outside.append(name)
    return _checked(found, outside, known, own)


def _checked(found: dict[str, list[str]], outside: list[str], known: dict[str, set[str]], own: Mapping[str, str]) -> Layout:
    for split, folders in known.items():
        if len(folders) > 1:
            raise _unclear(f"{' and '.join(sorted(folders))} are both called after {split}")
    for folder in own:
        if folder not in {name for folders in known.values() for name in folders}:
            raise InvalidInput(f"data.split_folders: there is no image in a folder called {folder}")
    names = {split: known[split].pop() for split in SPLITS if split in known}
    if own and "train" not in own.values():
        found, outside = found | {"train": outside}, []
    if not found or (len(found) == 1 and not outside and not own):
        return Layout({}, [], {})  # one folder with everything in it
    if "train" not in found or len(found) == 1:
        told = ", ".join(f"{len(found[split])} images in {folder}/" for split, folder in names.items())
        raise _unclear(f"there are {told} and {len(outside)} elsewhere")
    return Layout(found, outside, names)


def _unclear(what: str) -> InvalidInput:
    return InvalidInput(
        f"{what}, which does not say how to split them: set data.split_folders='{{train: NAME, val: NAME, test: NAME}}' to "
        "the folders' names, or data.split_folders=none to draw a new split of all images"
    )


class Splitting(HeldOut):
    """Parts of a data set that are splits by their names, and examples held out of the training part for the others.

    Args:
        val, test: see ``HeldOut``.
        order: seed of the permutation that chooses which are held out.
        names: names of the parts, by ``train``, ``val``, ``test``, or ``train_labels`` and so on; None to tell by the names
            themselves, such as ``x_train`` and ``y_train``. A single part is split.
    """

    def __init__(self, val: float = 0.05, test: float = 0.1, order: int = 0, names: Mapping[str, str] | None = None) -> None:
        super().__init__(val, test)
        self.order, self.names = order, dict(names or {})

    def parts(self, found: Sequence[str], where: str) -> tuple[dict[str, str], dict[str, str]]:
        """Return the names of the examples and of the labels by split, from the names that there are.

        Raises:
            InvalidInput: no training part, several for a split, or a name that is not there.
        """
        for name in self.names.values():
            if name not in found:
                raise InvalidInput(f"{where} has no {name!r}{did_you_mean(name, found, f'it has {_listed(found)}')}")
        examples, labels = dict[str, str](), dict[str, str]()
        for role, name in (self.names or {name: name for name in found}).items():
            split, is_label = _role(role)
            if split is None:
                continue
            kind = labels if is_label else examples
            if split in kind:
                raise InvalidInput(f"{where} has {kind[split]!r} and {name!r} for {split}: {SAY}")
            kind[split] = name
        if not examples and len(found) == 1:
            examples = {"train": found[0]}
        if "train" not in examples:
            raise InvalidInput(f"{where} has {_listed(found)}, none of which is called after train: {SAY}")
        return examples, labels

    def held_out(self, n: int, present: Iterable[str]) -> dict[str, np.ndarray]:
        """Return the rows of n training examples that train, and those held out for each split that is not present."""
        missing = [split for split in ("val", "test") if split not in present]
        if not missing:
            return {"train": np.arange(n)}
        rest, rows = np.random.RandomState(self.order).permutation(n), dict[str, np.ndarray]()
        for split, size in self.sizes(n, missing).items():
            rows[split], rest = np.sort(rest[:size]), rest[size:]
        return {"train": np.sort(rest), **rows}


def _role(name: str) -> tuple[str | None, bool]:
    """Return the split that a name stands for, and whether it is that of labels; a name that says neither is no split's."""
    words = re.findall("[a-z]+", name.lower())
    rest = [word for word in words if word not in LABELS]
    neutral = all(word in NEUTRAL for word in rest)
    return "train" if neutral else split_named("_".join(rest)), len(rest) < len(words)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
