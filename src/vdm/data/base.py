"""A data set with its three splits in memory, as a LightningDataModule."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch import Tensor

from vdm.data.batches import OrderedBatches, ShuffledBatches, check_shares
from vdm.data.split import Split, fits
from vdm.errors import InvalidInput, at_least, at_most


class InMemoryData(LightningDataModule, ABC):
    """Yields ``Batch(x, index, condition)`` with x as stored: integer levels, or reals; unscaled.

    ``name`` and ``release`` say which data these are; two releases of one data set have two names.

    Args:
        event_shape: the shape of one example; checked against the data.
        batch_size: global training batch size, over all processes.
        eval_batch_size: evaluation batch size of one process.
        seed: of the training order, and of the mirroring.
        workers: processes that gather batches beside each training process; 0 for none.
        device: where examples are kept and batches gathered, without workers. None: on the accelerator where there is one
            and a split takes at most a quarter of its free memory, else on the CPU.
        flip: mirror half of the training examples of each epoch left to right. Never in evaluation.

    Raises:
        InvalidInput: a device that there is not; evaluation batches of no examples; a split of nothing; data of another
            shape than stated.
    """

    name: str
    release: str
    download = False
    """Whether missing files are fetched, by a class that can."""
    sizes: Mapping[str, int]
    """How many examples each split has, of a class that is told: checked before they are loaded."""

    def __init__(
        self,
        event_shape: tuple[int, ...],
        batch_size: int,
        eval_batch_size: int,
        seed: int = 0,
        workers: int = 0,
        device: str | None = None,
        flip: bool = False,
    ) -> None:
        super().__init__()
        if device is not None:
            check_device(device)
        at_least(1, eval_batch_size=eval_batch_size)
        at_most(eval_batch_size=eval_batch_size)
        self.event_shape = tuple(event_shape)
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.workers, self.device, self.flip = workers, device, flip
        self._splits: dict[str, Split] = {}

    @abstractmethod
    def load(self) -> dict[str, Split]:
        """The splits ``train``, ``val`` and ``test``."""

    @abstractmethod
    def picture(self, x: Tensor) -> Image.Image:
        """Examples or samples (n, *event_shape), as a person would look at them."""

    def setup(self, stage: str | None = None) -> None:
        """Load what the test needs as well, so that training does not begin without it."""
        for split in self.splits().values():
            check_shares(len(split.x), self._place()[1])

    def splits(self) -> dict[str, Split]:
        """The three splits, loaded once.

        Raises:
            InvalidInput: sizes of other than three splits with examples; examples of another shape than stated.
        """
        if not self._splits:
            if hasattr(self, "sizes"):
                check_sizes(self.sizes)
            splits = self.load()
            for name, split in splits.items():
                if not len(split.x):
                    raise InvalidInput(f"{self.name}: there is no {name} example: each split needs one at least")
                if tuple(split.x.shape[1:]) != self.event_shape:
                    raise InvalidInput(
                        f"{self.name}: {name} examples have shape {tuple(split.x.shape[1:])}, but data.event_shape is "
                        f"{self.event_shape}"
                    )
            self._splits = splits
        return self._splits

    def split(self, name: str) -> Split:
        """One of them.

        Raises:
            InvalidInput: another name.
        """
        splits = self.splits()
        if name not in splits:
            raise InvalidInput(f"there is no split {name!r} of {self.name}: use one of {', '.join(splits)}")
        return splits[name]

    def provenance(self) -> dict[str, object]:
        """Name, release, sizes and fingerprints, to stand beside every number; and whether training mirrored examples."""
        splits = {name: {"size": len(s.x), "sha256": s.fingerprint()} for name, s in self.splits().items()}
        return {"name": self.name, "release": self.release, "splits": splits, "flip": self.flip}

    @property
    def title(self) -> str:
        """The name as it heads a table: a model trained on mirrored examples belongs in another one."""
        return f"{self.name}, trained with flips" if self.flip else self.name

    def sampling_condition(self, n: int) -> Tensor | None:
        """Conditions for ``n`` samples: those of the first training examples, over and over."""
        condition = self.splits()["train"].condition
        return None if condition is None else condition[torch.arange(n) % len(condition)]

    def train_dataloader(self) -> ShuffledBatches:
        split = self._placed(self.splits()["train"])
        return ShuffledBatches(split, self.batch_size, self.seed, *self._place(), self.flip, self.workers)

    def val_dataloader(self) -> OrderedBatches:
        return self.ordered("val")

    def test_dataloader(self) -> OrderedBatches:
        return self.ordered("test")

    def ordered(self, name: str) -> OrderedBatches:
        """Every example of a split once."""
        return OrderedBatches(self._placed(self.split(name)), self.eval_batch_size, *self._place(), self.workers)

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _placed(self, split: Split) -> Split:
        """The split where its batches are gathered."""
        if self.workers:
            return split
        if self.device is not None:
            return split.on(torch.device(self.device))
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        return split.on(device) if fits(split, device) else split


def check_sizes(sizes: Mapping[str, int]) -> None:
    """Raises InvalidInput for sizes of other splits than the three, or of one without examples."""
    if sizes.keys() != {"train", "val", "test"}:
        raise InvalidInput(f"data.sizes must be those of train, val and test, got {', '.join(sizes) or 'none'}")
    at_least(1, **{f"data.sizes.{name}": size for name, size in sizes.items()})


def check_device(name: str) -> None:
    """Raises InvalidInput for a name of no device that holds tensors; whether this machine has it is known in use."""
    try:
        known = torch.device(name).type in ("cpu", "cuda", "mps")
    except RuntimeError:
        known = False
    if not known:
        raise InvalidInput(f"device must be cpu, cuda, cuda:0 and so on, mps, or null to choose by memory, got {name!r}")
