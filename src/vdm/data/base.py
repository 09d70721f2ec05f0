"""A data set with its three splits in memory, as a LightningDataModule."""

import hashlib
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch import Tensor

from vdm.data.batches import OrderedBatches, ShuffledBatches
from vdm.errors import InvalidInput


class Split(NamedTuple):
    """Examples (N, *event), and conditions (N, …) or None."""

    x: Tensor
    condition: Tensor | None = None

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the SHA-256 of the shape, type and bytes of ``x``."""
        digest = hashlib.sha256(f"{tuple(self.x.shape)} {self.x.dtype}".encode())
        digest.update(self.x.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


class InMemoryData(LightningDataModule, ABC):
    """Yields ``Batch(x, index, condition)`` with x as stored: integer levels, or reals; unscaled.

    Args:
        event_shape: the shape of one example; checked against the data.
        batch_size: global training batch size, over all processes.
        eval_batch_size: evaluation batch size of one process.
        seed: of the training order.

    Raises:
        InvalidInput: data of another shape than stated.
    """

    name: str

    def __init__(self, event_shape: tuple[int, ...], batch_size: int, eval_batch_size: int, seed: int = 0) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self._splits: dict[str, Split] = {}

    @abstractmethod
    def load(self) -> dict[str, Split]:
        """The splits ``train``, ``val`` and ``test``."""

    @abstractmethod
    def picture(self, x: Tensor) -> Image.Image:
        """Examples or samples (n, *event_shape), as a person would look at them."""

    def setup(self, stage: str | None = None) -> None:
        self.splits()

    def splits(self) -> dict[str, Split]:
        """The three splits, loaded once."""
        if not self._splits:
            splits = self.load()
            for name, split in splits.items():
                if tuple(split.x.shape[1:]) != self.event_shape:
                    raise InvalidInput(
                        f"{self.name}: {name} examples have shape {tuple(split.x.shape[1:])}, but data.event_shape is "
                        f"{self.event_shape}"
                    )
            self._splits = splits
        return self._splits

    def provenance(self) -> dict[str, object]:
        """Name, sizes and fingerprints, to stand beside every number."""
        splits = {name: {"size": len(s.x), "sha256": s.fingerprint()} for name, s in self.splits().items()}
        return {"name": self.name, "splits": splits}

    def sampling_condition(self, n: int) -> Tensor | None:
        """Conditions for ``n`` samples: those of the first training examples, over and over."""
        condition = self.splits()["train"].condition
        return None if condition is None else condition[torch.arange(n) % len(condition)]

    def train_dataloader(self) -> ShuffledBatches:
        split = self.splits()["train"]
        return ShuffledBatches(split.x, self.batch_size, self.seed, *self._place(), split.condition)

    def val_dataloader(self) -> OrderedBatches:
        return self.ordered("val")

    def test_dataloader(self) -> OrderedBatches:
        return self.ordered("test")

    def ordered(self, name: str) -> OrderedBatches:
        """Every example of a split once."""
        splits = self.splits()
        if name not in splits:
            raise InvalidInput(f"there is no split {name!r} of {self.name}: use one of {', '.join(splits)}")
        return OrderedBatches(splits[name].x, self.eval_batch_size, *self._place(), splits[name].condition)

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
