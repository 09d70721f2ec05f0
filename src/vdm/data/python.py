"""Data modules from Python, without a config: ``from_arrays`` and ``from_dataset``."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from vdm.data.arrays import ArraySource, in_memory, likely_levels, likely_shape
from vdm.data.datasets import DatasetSource, Items
from vdm.data.module import DataModule
from vdm.data.shares import Splitting
from vdm.data.stored import StoredRows

Examples = np.ndarray | Tensor | str
"""Examples (N, *event) in an array, a tensor, or a npy file by its path, which is read by rows."""


def from_arrays(
    train: Examples,
    val: Examples | float = 0.05,
    test: Examples | float = 0.1,
    labels: Mapping[str, Any] | None = None,
    levels: int | None = None,
    event_shape: Sequence[int] | None = None,
    **serving: Any,
) -> DataModule:
    """Return a data module of arrays.

    Args:
        train: examples (N, C, H, W), (N, H, W), (N, H, W, C) or (N, D).
        val, test: examples as well, or the share or number to hold out of ``train``.
        labels: (N,) or (N, F) by split; given, they are the conditions.
        levels: K of integer levels, 0 for real numbers; None: 256 for bytes, 65536 for wider integers, 2 for booleans.
        event_shape: None to tell by the array's.
        serving: settings of ``DataModule``; batches of 64 to train and 250 to evaluate unless it says otherwise.

    Raises:
        InvalidInput: arrays of other shapes; numbers that are neither levels nor reals.
    """
    asked = {"val": val, "test": test}
    held = {split: float(value) for split, value in asked.items() if isinstance(value, int | float)}
    given = {"train": train, **{split: value for split, value in asked.items() if split not in held}}
    arrays = {name: in_memory(value) for name, value in given.items()}
    first = arrays["train"]
    kind = first.kind if isinstance(first, StoredRows) else first.dtype
    source = ArraySource(
        likely_shape(tuple(first.shape[1:])) if event_shape is None else event_shape,
        {**arrays, **{f"{split}_labels": np.asarray(value) for split, value in (labels or {}).items()}},
        Splitting(held.get("val", 0.05), held.get("test", 0.1)),
        likely_levels(kind) if levels is None else levels,
        labels is not None,
    )
    return DataModule(source, **{"batch_size": 64, "eval_batch_size": 250, **serving})


def from_dataset(
    dataset: Any,
    event_shape: Sequence[int],
    levels: int = 256,
    labels: bool = False,
    items: Items | None = None,
    **serving: Any,
) -> DataModule:
    """Return a data module of a map-style torch data set.

    Args:
        dataset: one, of which examples are held out; several by ``train``, ``val``, ``test``; or a ``LightningDataModule``.
        event_shape: of an example.
        levels: K of integer levels, 0 for real numbers.
        labels: whether the items' labels are conditions.
        items: how items become examples, and how many are held out.
        serving: as for ``from_arrays``.
    """
    source = DatasetSource(event_shape, dataset, Items() if items is None else items, levels, labels)
    return DataModule(source, **{"batch_size": 64, "eval_batch_size": 250, **serving})
