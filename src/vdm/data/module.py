"""A data source served in batches, as a LightningDataModule."""

import math
from collections.abc import Callable
from typing import ParamSpec

import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch import Tensor

from vdm.buildable import buildable
from vdm.data.batches import OrderedBatches, ShuffledBatches, check_shares
from vdm.data.source import Source
from vdm.data.split import Split, fits
from vdm.errors import InvalidInput, at_least, at_most
from vdm.terms import bits_per_dim

Settings = ParamSpec("Settings")


class DataModule(LightningDataModule):
    """Serve a source as ``Batch(x, index, condition)``, with x as stored: integer levels or real numbers, unscaled.

    Args:
        source: the data set.
        batch_size: global training batch size, over all processes.
        eval_batch_size: evaluation batch size of one process.
        seed: of the training order and of the mirroring.
        workers: worker processes that gather batches for each training process; 0 for none.
        device: device on which examples are kept and batches gathered if there are no workers. None: the accelerator if a
            split takes at most a quarter of its free memory, else the CPU.
        flip: mirror half of the training examples of each epoch left to right; evaluation never does.

    Raises:
        InvalidInput: an unknown device; an evaluation batch size below 1; flips of data that have no mirror image.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        eval_batch_size: int,
        seed: int = 0,
        workers: int = 0,
        device: str | None = None,
        flip: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(source, Source):
            raise InvalidInput(f"data.source must make a vdm.data.Source, got {type(source).__name__}")
        if device is not None:
            check_device(device)
        at_least(1, eval_batch_size=eval_batch_size)
        at_most(eval_batch_size=eval_batch_size)
        if flip and not source.can_flip:
            raise InvalidInput(f"data.flip=true: examples of {source.name} have no mirror image; leave it out")
        self.source, self.event_shape = source, source.event_shape
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.workers, self.device, self.flip = workers, device, flip
        self._splits: dict[str, Split] = {}

    @classmethod
    @buildable
    def of(
        cls,
        source: Callable[Settings, Source],
        batch_size: int,
        eval_batch_size: int,
        seed: int = 0,
        workers: int = 0,
        device: str | None = None,
        flip: bool = False,
        *args: Settings.args,
        **settings: Settings.kwargs,
    ) -> "DataModule":
        """Build the source from ``settings``, which stand beside the module's own in a config: ``data.root=…``."""
        return cls(source(*args, **settings), batch_size, eval_batch_size, seed, workers, device, flip)

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.source.name

    @property
    def title(self) -> str:
        """Name for the heading of a table: models trained with flips belong in another table."""
        return f"{self.name}, trained with flips" if self.flip else self.name

    def picture(self, x: Tensor, levels: int | None = None) -> Image.Image:
        """Draw examples or samples (n, *event_shape) of ``levels`` integer levels; None: the data's own number."""
        return self.source.picture(x.cpu(), levels)

    def setup(self, stage: str | None = None) -> None:
        """Load all splits, so that training does not start without the data of the test."""
        for split in self.splits().values():
            check_shares(len(split.x), self._rank_and_world_size()[1])

    def splits(self) -> dict[str, Split]:
        """Return the three splits, loaded at the first call.

        Raises:
            InvalidInput: sizes for other splits; an empty split; examples of another shape than ``event_shape``.
        """
        if not self._splits:
            sizes = self.source.sizes
            if sizes is not None:
                if sizes.keys() != {"train", "val", "test"}:
                    raise InvalidInput(f"data.sizes must be those of train, val and test, got {', '.join(sizes) or 'none'}")
                at_least(1, **{f"data.sizes.{name}": size for name, size in sizes.items()})
            splits = self.source.load()
            for name, split in splits.items():
                if not len(split.x):
                    raise InvalidInput(f"{self.name}: the {name} split is empty: each split needs at least one example")
                if tuple(split.x.shape[1:]) != self.event_shape:
                    raise InvalidInput(
                        f"{self.name}: {name} examples have shape {tuple(split.x.shape[1:])}, but data.event_shape is "
                        f"{self.event_shape}"
                    )
            self._splits = splits
        return self._splits

    def split(self, name: str) -> Split:
        """Return one split; raise InvalidInput for an unknown name."""
        splits = self.splits()
        if name not in splits:
            raise InvalidInput(f"there is no split {name!r} of {self.name}: use one of {', '.join(splits)}")
        return splits[name]

    def entropy(self, name: str) -> tuple[float, float] | None:
        """Return the mean of −log p over a split and its standard error, in bits/dim; None where p is unknown.

        No model's bound is better than this on average.
        """
        log_prob = self.source.log_prob(self.split(name).x)
        if log_prob is None:
            return None
        bits = bits_per_dim(-log_prob, math.prod(self.event_shape))
        return bits.mean().item(), (bits.std() / len(bits) ** 0.5).item()

    def provenance(self) -> dict[str, object]:
        """Return the facts stored beside every number: name, release, flips, and size and fingerprint of each split."""
        splits = {name: {"size": len(s.x), "sha256": s.fingerprint()} for name, s in self.splits().items()}
        entropy = self.entropy("test") if "test" in splits else None
        known = {} if entropy is None else {"test_minus_log_prob_bits_per_dim": entropy[0]}
        facts = {"name": self.name, "release": self.source.release, "splits": splits, "flip": self.flip}
        return facts | self.source.provenance() | known

    def sampling_condition(self, n: int) -> Tensor | None:
        """Return conditions for ``n`` samples: those of the first training examples, repeated."""
        if not getattr(self.source, "labels", True):
            return None  # without reading the data, which samples of such a model do not need
        condition = self.splits()["train"].condition if self.source.has_examples else None
        return None if condition is None else condition[torch.arange(n) % len(condition)]

    def train_dataloader(self) -> ShuffledBatches:
        split = self._placed(self.splits()["train"])
        return ShuffledBatches(split, self.batch_size, self.seed, *self._rank_and_world_size(), self.flip, self.workers)

    def val_dataloader(self) -> OrderedBatches:
        return self.ordered("val")

    def test_dataloader(self) -> OrderedBatches:
        return self.ordered("test")

    def ordered(self, name: str) -> OrderedBatches:
        """Return batches with every example of a split once, in order."""
        split = self._placed(self.split(name))
        return OrderedBatches(split, self.eval_batch_size, *self._rank_and_world_size(), self.workers)

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _placed(self, split: Split) -> Split:
        """Return the split on the device where its batches are gathered."""
        if self.workers:
            return split
        if self.device is not None:
            return split.on(torch.device(self.device))
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        return split.on(device) if fits(split, device) else split


def check_device(name: str) -> None:
    """Raise InvalidInput unless ``name`` is a device type that holds tensors, on this machine or another."""
    try:
        known = torch.device(name).type in ("cpu", "cuda", "mps")
    except RuntimeError:
        known = False
    if not known:
        raise InvalidInput(f"device must be cpu, cuda, cuda:0 and so on, mps, or null to choose by memory, got {name!r}")
