"""Batches by index: no padding, no example lost or doubled; gathered in this process or in worker processes."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vdm.batch import Batch
from vdm.data.split import Split
from vdm.data.workers import obey_only_the_parent, worker_context
from vdm.errors import InvalidInput


class Rows(NamedTuple):
    """Rows of a split to gather: their indices (B,), and which of them to mirror (B,), or None for none."""

    index: Tensor  # type: ignore[assignment]
    mirrored: Tensor | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Hand plain bytes to a worker: a view of a tensor would take its whole storage along."""
        return _rows, (self.index.numpy().copy(), None if self.mirrored is None else self.mirrored.numpy().copy())


def _rows(index: np.ndarray, mirrored: np.ndarray | None) -> Rows:
    return Rows(torch.from_numpy(index), None if mirrored is None else torch.from_numpy(mirrored))


class _Gather(Dataset[Batch]):
    """A dataset whose item for ``Rows`` is a batch."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __getitem__(self, rows: Rows) -> Batch:
        x, condition = self.split.x[rows.index], self.split.condition
        if rows.mirrored is not None:
            x = torch.where(rows.mirrored.view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)
        return Batch(x, rows.index, None if condition is None else condition[rows.index])


def read(split: Split, rows: Iterable[Rows], workers: int) -> DataLoader[Batch]:
    """Return one batch for each of ``rows``, in their order, as often as it is iterated over.

    ``workers`` start when the first batch is asked for, and share the examples' memory or file. The global random
    generators stay unchanged.
    """
    if workers < 0:
        raise InvalidInput(f"data.workers must be 0 (this process) or a number of processes, got {workers}")
    return DataLoader(
        _Gather(split),
        batch_size=None,
        sampler=rows,
        num_workers=workers,
        pin_memory=torch.cuda.is_available() and split.x.device.type == "cpu",  # copies to the GPU overlap with the step
        generator=torch.Generator(),
        multiprocessing_context=worker_context() if workers else None,
        persistent_workers=workers > 0,
        worker_init_fn=obey_only_the_parent,
    )


def check_batch_size(batch_size: int, size: int) -> None:
    """Raise InvalidInput for a training batch below 1 or above the number of training examples."""
    if not 0 < batch_size <= size:
        raise InvalidInput(
            f"batch_size={batch_size} must be between 1 and the {size} training examples: set data.batch_size="
        )


def check_shares(size: int, processes: int) -> None:
    """Raise InvalidInput for fewer examples than processes that evaluate them together."""
    if size < processes:
        raise InvalidInput(f"a split of {size} cannot be evaluated by {processes} processes: use at most {size}")


class ShuffledRows:
    """This process's share of each global batch of an epoch, in the order of a (seed, epoch) permutation.

    Iterating yields the rest of the epoch and changes no state; ``advance`` moves on by one batch. Mirroring is a pure
    function of (seed, epoch, index) and does not change the order. Indices lie on the examples' device, an epoch at a time.
    """

    def __init__(self, split: Split, batch_size: int, seed: int, rank: int, world_size: int, flip: bool) -> None:
        size = len(split.x)
        if batch_size % world_size:
            raise InvalidInput(f"the global batch_size={batch_size} must be a multiple of the {world_size} processes")
        check_batch_size(batch_size, size)
        self.size, self.batch_size, self.seed, self.flip = size, batch_size, seed, flip
        self.device = split.x.device
        self.rank, self.local = rank, batch_size // world_size
        self.epoch, self.position = 0, 0

    def __iter__(self) -> Iterator[Rows]:
        generator, start = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch), self.position
        order = torch.randperm(self.size, generator=generator).to(self.device)
        mirrored = (torch.rand(self.size, generator=generator) < 0.5).to(self.device) if self.flip else None
        for first in range(start, self.size - self.batch_size + 1, self.batch_size):
            index = order[first + self.rank * self.local :][: self.local]
            yield Rows(index, None if mirrored is None else mirrored[index])

    def advance(self) -> None:
        """Count one batch as taken; after the last whole one of an epoch the next epoch starts."""
        self.position += self.batch_size
        if self.position + self.batch_size > self.size:
            self.epoch, self.position = self.epoch + 1, 0


class ShuffledBatches:
    """Training batches: one epoch per pass, in the order of a (seed, epoch) permutation.

    Every process takes its slice of the same global batch, so the examples of step n do not depend on the number of
    processes. The rest of an epoch (less than a global batch) is skipped; every epoch skips other examples.
    ``state_dict`` is the same on all ranks and for any number of workers, which may read ahead: it counts the batches
    taken. After ``load_state_dict`` a pass resumes in the middle of its epoch.

    Args:
        split: the examples.
        batch_size: global batch size, over all processes together.
        flip: mirror half of the examples of each epoch left to right.
        workers: processes that gather batches; 0 for this one.

    Raises:
        InvalidInput: a batch size that the processes cannot share equally, or larger than the data.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        flip: bool = False,
        workers: int = 0,
    ) -> None:
        self._rows = ShuffledRows(split, batch_size, seed, rank, world_size, flip)
        self._batches = read(split, self._rows, workers)

    def __len__(self) -> int:
        return self._rows.size // self._rows.batch_size

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches:
            self._rows.advance()  # before the yield: after the last batch the caller does not resume this generator
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self._rows.epoch, "position": self._rows.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._rows.epoch, self._rows.position = state["epoch"], state["position"]


class OrderedBatches:
    """Evaluation batches: rows rank, rank + W, rank + 2W, … once, in order; the last batch may be short.

    Raises:
        InvalidInput: a batch size below 1; fewer examples than processes.
    """

    def __init__(self, split: Split, batch_size: int, rank: int = 0, world_size: int = 1, workers: int = 0) -> None:
        if batch_size < 1:
            raise InvalidInput(f"eval_batch_size must be at least 1, got {batch_size}")
        check_shares(len(split.x), world_size)
        index = torch.arange(rank, len(split.x), world_size, device=split.x.device)
        self._rows = [Rows(rows) for rows in index.split(batch_size)]
        self._batches = read(split, self._rows, workers)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._batches)
