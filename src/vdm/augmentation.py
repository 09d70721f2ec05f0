"""Symmetries of images in training, told to the network: augmentation that does not leak into the model of the data.

An example is replaced by one of its images under a symmetry, and the network sees an indicator of which; zero means the
example as it is. The bound is evaluated, and samples are drawn, with the indicator at zero: it is then the bound of the
data's own density (Karras et al. 2022, appendix F.2; Kingma & Gao 2023).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional as F

from vdm.batch import Batch
from vdm.draws import AbstractDraws
from vdm.errors import InvalidInput

CHANNEL_ORDERS = tuple(permutations(range(3)))
"""The orders of three channels, the first of them their own."""


class Symmetry(ABC):
    """A finite set of maps of images (C, H, W) to images, numbered from 0, the identity."""

    choices: int

    def check(self, x: Tensor) -> None:
        """Raise InvalidInput for examples (B, *event) that it does not map to examples."""
        if x.ndim != 4:
            raise InvalidInput(f"augmentation needs images (C, H, W), got examples {tuple(x.shape[1:])}: leave it out")

    @abstractmethod
    def apply(self, x: Tensor, choice: Tensor) -> Tensor:
        """Return each image of x (B, C, H, W) under the map of its number in ``choice`` (B,)."""


class Flips(Symmetry):
    """Left to right."""

    choices = 2

    def apply(self, x: Tensor, choice: Tensor) -> Tensor:
        return torch.where(choice.view(-1, 1, 1, 1) == 1, x.flip(-1), x)


class QuarterTurns(Symmetry):
    """By 0, 90, 180 and 270 degrees."""

    choices = 4

    def check(self, x: Tensor) -> None:
        super().check(x)
        if x.shape[2] != x.shape[3]:
            raise InvalidInput(f"only square images can be turned, got {tuple(x.shape[1:])}: use augmentation=flips")

    def apply(self, x: Tensor, choice: Tensor) -> Tensor:
        turned = torch.stack([x.rot90(turns, (2, 3)) for turns in range(4)])
        return turned[choice, torch.arange(len(x), device=x.device)]


class ChannelOrders(Symmetry):
    """The six orders of three channels."""

    choices = len(CHANNEL_ORDERS)

    def check(self, x: Tensor) -> None:
        super().check(x)
        if x.shape[1] != 3:
            raise InvalidInput(f"orders of the channels need three of them, got {tuple(x.shape[1:])}: leave them out")

    def apply(self, x: Tensor, choice: Tensor) -> Tensor:
        orders = torch.tensor(CHANNEL_ORDERS, device=x.device)[choice]
        return x[torch.arange(len(x), device=x.device)[:, None], orders]


class Augmentation:
    """What training does to a batch before its loss; nothing here.

    Attributes:
        description: names it in results; empty for none.
    """

    description = ""

    def __call__(self, batch: Batch, draws: AbstractDraws) -> Batch:
        return batch


class IndicatedSymmetries(Augmentation):
    """Each of some symmetries with probability p by a random one of its maps, and the indicator as the batch's condition.

    The indicator joins, for each symmetry, the one-hot vector of its number without the entry of the identity.

    Args:
        symmetries: applied one after the other.
        probability: p; 1 draws all maps alike, the identity among them.

    Raises:
        InvalidInput: p outside [0, 1]; in use, data with labels, or images that a symmetry does not fit.
    """

    def __init__(self, symmetries: Sequence[Symmetry], probability: float = 1.0) -> None:
        if not 0 <= probability <= 1:
            raise InvalidInput(f"probability must be in [0, 1], got {probability}")
        self.symmetries, self.probability = list(symmetries), float(probability)

    @property
    def features(self) -> int:
        """The numbers in the indicator."""
        return sum(each.choices - 1 for each in self.symmetries)

    @property
    def description(self) -> str:  # type: ignore[override]
        return ", ".join(type(each).__name__ for each in self.symmetries) + f" with probability {self.probability:g}"

    def __call__(self, batch: Batch, draws: AbstractDraws) -> Batch:
        if batch.condition is not None:
            raise InvalidInput("augmentation tells the network what it did, and takes no other condition: leave labels out")
        x, indicators = batch.x, []
        for number, symmetry in enumerate(self.symmetries):
            symmetry.check(x)
            choice = self._choose(symmetry.choices, draws, f"symmetry_{number}", x)
            x = symmetry.apply(x, choice)
            indicators.append(F.one_hot(choice, symmetry.choices)[:, 1:])
        return Batch(x, batch.index, torch.cat(indicators, 1).float())

    def _choose(self, choices: int, draws: AbstractDraws, name: str, x: Tensor) -> Tensor:
        """(B,): 0 with probability 1 − p, else a random number below ``choices``."""
        u = draws.uniform(name, x)
        within = (u / self.probability * choices).long().clamp(max=choices - 1) if self.probability else torch.zeros_like(u)
        return torch.where(u < self.probability, within, 0).long()
