"""Limits on what a file may make its reader do: checked before anything is unpacked, copied or built.

A checkpoint, a run folder and an exported model may come from anyone. What they cost to read must be proportional to their
size on disk: no file decides by itself how much memory, time or how many processes its reader spends.
"""

import os
import pickle
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks

from vdm.errors import InvalidInput

DIRECTORY_BYTES = 64 * 2**20
"""Largest table of contents of a checkpoint: some 100 bytes for each tensor, of which there are thousands at most."""

NODES, DEPTH = 100_000, 64
"""Most values in a config or a provenance, and most levels of nesting; those of the largest run have some hundreds and 8."""

YAML_BYTES, JSON_BYTES, NOTE_BYTES = 2**19, 2**24, 2**16
"""Largest yaml and json files of a run folder, and notes such as failure.txt; the usual ones have some thousand bytes."""

INTEGER = 10**7
"""Largest whole number in the settings of a foreign file's data: sizes of splits, of batches, of images."""

EVENT = 2**26
"""Most dimensions of one example of a foreign file's data."""


def check_file(path: Path, most: int | None = None) -> None:
    """Raise InvalidInput for a file of more than ``most`` bytes, by default of more than this machine's memory."""
    most = most or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    size = path.stat().st_size
    if size > most:
        raise InvalidInput(f"{path} has {size:,} bytes, and vdm reads at most {most:,} here: it is not what it seems")


def read_text(path: Path, most: int = NOTE_BYTES) -> str:
    """Return a text file of at most ``most`` bytes.

    Raises:
        InvalidInput: a larger file, without reading it.
    """
    check_file(path, most)
    return path.read_text()


def check_archive(path: Path) -> None:
    """Raise an error unless a zip file's entries are stored as they are, one after the other, as torch writes them.

    Then their sizes add up to less than the file's. A compressed entry, or several entries over the same bytes, could unpack
    to any size.

    Raises:
        InvalidInput, zipfile.BadZipFile: such a file, or none at all.
    """
    check_file(path)
    with path.open("rb") as file:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if not end or end[zipfile._ECD_SIZE] > DIRECTORY_BYTES:  # type: ignore[attr-defined]
        raise zipfile.BadZipFile("no zip file of a known size")
    with zipfile.ZipFile(path) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    ends = [entry.header_offset for entry in entries[1:]] + [path.stat().st_size]
    for entry, limit in zip(entries, ends, strict=True):
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise zipfile.BadZipFile(f"{entry.filename[:60]} in it is compressed, which torch never does")
        if entry.header_offset + entry.file_size >= limit:
            raise zipfile.BadZipFile(f"{entry.filename[:60]} in it overlaps the next entry")


def load_without_code(path: Path) -> Any:
    """Return the content of a file of ``torch.save``: tensors and plain values on the CPU.

    Raises:
        ValueError: anything else in it. A damaged file may raise any other error as well.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError("more in it than tensors and plain values") from error


def check_tree(tree: Any, place: str) -> None:
    """Raise InvalidInput for a tree of too many values, or too deep; one that is met twice counts twice."""
    level, seen = [tree], 1
    for _ in range(DEPTH):
        seen += sum(map(len, map(_children, level)))  # before they are put together
        if seen > NODES:
            break
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise InvalidInput(f"{place} has more than {NODES:,} values, or more than {DEPTH} levels: it is not what vdm writes")


def _children(node: Any) -> Collection[Any]:
    if isinstance(node, Mapping):
        return node.values()
    return node if isinstance(node, list | tuple | set | frozenset) else ()


def check_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise InvalidInput for a tensor that is larger than what is stored of it, such as one number seen a million times."""
    for name, value in tensors.items():
        plain = value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized
        if not plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise InvalidInput(f"{path}: {name} is not stored in full, as vdm does: use another file")


@contextmanager
def built_within(weights: Mapping[str, Tensor], path: Path) -> Iterator[None]:
    """Refuse to build a module much larger than the ``weights`` for it: before its memory is written to.

    Raises:
        InvalidInput: parameters and buffers of more than four times the bytes of ``weights``, or far too many modules.
    """
    left = {"bytes": 4 * sum(value.numel() * 8 for value in weights.values()) + 2**26, "parts": 1000 + 100 * len(weights)}

    def count(_: nn.Module, __: str, part: Any) -> None:
        left["parts"] -= 1
        if isinstance(part, Tensor):
            left["bytes"] -= part.numel() * part.element_size()
        if min(left.values()) < 0:
            raise InvalidInput(f"{path}: its config describes a model far larger than its weights: use another one")

    registries = ("parameter", "buffer", "module")
    handles = [getattr(hooks, f"register_module_{kind}_registration_hook")(count) for kind in registries]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_data_config(data: Any, path: Path) -> None:
    """Raise InvalidInput for settings of a foreign file's data that ask for far more than any data set."""
    level = [data]
    while level:
        for value in level:
            if isinstance(value, int) and abs(value) > INTEGER:
                raise InvalidInput(f"{path}: {value} in its settings of the data is above {INTEGER:,}: use another file")
        level = [child for node in level for child in _children(node)]
    shape, size = data.get("event_shape") if isinstance(data, Mapping) else None, 1
    for length in shape if isinstance(shape, list | tuple) else ():
        size *= length if isinstance(length, int) else 1
    if size > EVENT:
        raise InvalidInput(f"{path}: examples of {size:,} dimensions, and vdm reads at most {EVENT:,}: use another file")
