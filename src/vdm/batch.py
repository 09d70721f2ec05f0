"""Examples as data modules yield them."""

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from vdm.errors import InvalidInput


class Batch(NamedTuple):
    """Examples of a data set.

    Attributes:
        x: (B, *event), integer levels 0 … K − 1, or reals; unscaled.
        index: (B,), position in the data set.
        condition: (B, …), class labels or vectors, or None.
    """

    x: Tensor
    index: Tensor  # type: ignore[assignment]
    condition: Tensor | None = None


def repeat_batch(x: Tensor, times: int) -> Tensor:
    """Repeat a whole batch: (B, …) to (times · B, …)."""
    return x.repeat(times, *[1] * (x.ndim - 1))


def first_examples(data: Batch, examples: int | None) -> Batch:
    """Return the first ``examples`` of a data set; None for all.

    Raises:
        InvalidInput: ``examples`` below 1.
    """
    if examples is not None and examples < 1:
        raise InvalidInput(f"examples must be at least 1, got {examples}, or null for the whole data set")
    if examples is None:  # a data set that is read from its file stays there
        return data
    return Batch(*(None if part is None else part[:examples] for part in data))  # type: ignore[arg-type]


def chunks(data: Batch, rows: int) -> Iterator[Batch]:
    """Yield a data set in batches of at most ``rows`` examples."""
    for start in range(0, len(data.x), rows):
        yield Batch(*(None if part is None else part[start : start + rows] for part in data))  # type: ignore[arg-type]
