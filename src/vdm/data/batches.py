"""Batches by index from tensors held in memory: no worker processes, no padding, no example lost or doubled."""

from collections.abc import Iterator

import torch
from torch import Tensor

from vdm.bound import Batch
from vdm.errors import InvalidInput


class ShuffledBatches:
    """One epoch a pass, in the order of a (seed, epoch) permutation; iterating again gives the next epoch.

    Every process cuts its slice out of the same global batch, so the examples of step n do not depend on the number of
    processes. What is left over at the end of an epoch (less than a global batch) is skipped; every epoch skips others.
    ``state_dict`` is the same on all ranks, and a pass that starts from a loaded state goes on in mid-epoch.

    Args:
        x: (N, *event), the examples.
        batch_size: global batch size, over all processes together.
        condition: (N, …) or None.

    Raises:
        InvalidInput: a batch size that the processes cannot share equally, or larger than the data.
    """

    def __init__(
        self, x: Tensor, batch_size: int, seed: int, rank: int = 0, world_size: int = 1, condition: Tensor | None = None
    ) -> None:
        if batch_size % world_size:
            raise InvalidInput(f"the global batch_size={batch_size} must be a multiple of the {world_size} processes")
        if not 0 < batch_size <= len(x):
            raise InvalidInput(f"batch_size={batch_size} must be between 1 and the {len(x)} training examples")
        self.x, self.condition, self.batch_size, self.seed = x, condition, batch_size, seed
        self.rank, self.local = rank, batch_size // world_size
        self.epoch, self.position = 0, 0

    def __len__(self) -> int:
        return len(self.x) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch))
        done = False
        while not done:
            start = self.position + self.rank * self.local
            rows = order[start : start + self.local]
            self.position += self.batch_size
            done = self.position + self.batch_size > len(self.x)
            if done:  # before the yield: nobody may ask for what comes after the last batch
                self.epoch, self.position = self.epoch + 1, 0
            yield Batch(self.x[rows], rows, None if self.condition is None else self.condition[rows])

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]


class OrderedBatches:
    """Every example of this process's shard once, in order: rows rank, rank + W, rank + 2W, …; the last batch is short."""

    def __init__(
        self, x: Tensor, batch_size: int, rank: int = 0, world_size: int = 1, condition: Tensor | None = None
    ) -> None:
        if batch_size < 1:
            raise InvalidInput(f"eval_batch_size must be at least 1, got {batch_size}")
        self.x, self.condition, self.batch_size = x, condition, batch_size
        self.rows = torch.arange(rank, len(x), world_size)

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for rows in self.rows.split(self.batch_size):
            yield Batch(self.x[rows], rows, None if self.condition is None else self.condition[rows])
