"""The interface of the reconstruction model p(x_0 | x_1), which defines the data's values."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vdm.bound import Denoise
from vdm.draws import AbstractDraws
from vdm.errors import InvalidInput
from vdm.levels import Levels, scale_of


class Likelihood(nn.Module, ABC):
    """p(x_0 | x_1) over the data's own values; sums or integrates to one.

    x is in the data's units (levels, or reals), and the diffusion runs on x_0 = encode(x). ``denoise`` is for likelihoods
    that depend on x̂_0(x_1); the others do not call it.
    """

    @abstractmethod
    def check(self, x: Tensor) -> None:
        """Raise InvalidInput, with one line, if ``x`` is not a possible value of the data."""

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Convert data (B, *event) in its own units to reals (B, *event).

        They have x's type if that is floating, else float32, or float64 once ``double()`` was called.
        """

    @abstractmethod
    def nearest(self, x_0: Tensor) -> Tensor:
        """Return the data's value nearest to each real of x_0 (B, *event): inverts ``encode``, and displays x_t."""

    @abstractmethod
    def log_prob(self, x: Tensor, x_1: Tensor, gamma_1: Tensor, denoise: Denoise) -> Tensor:
        """Return log p(x | x_1), (B,) in nats; gamma_1 is (B,) or (B, *event)."""

    @abstractmethod
    def decode(self, x_1: Tensor, gamma_1: Tensor, denoise: Denoise, draws: AbstractDraws) -> Tensor:
        """Draw from p(x | x_1), in the data's units."""

    def level_log_probs(self, x_1: Tensor, gamma_1: Tensor, denoise: Denoise) -> Tensor:
        """Return log p(x = k | x_1) of every level k, (B, *event, K) in nats, which add up to one over k.

        Raises:
            InvalidInput: a density, under which every single value has probability zero.
        """
        raise InvalidInput(
            f"{type(self).__name__} is a density of real numbers, which no finite number of bits identifies: use data of "
            "integer levels with likelihood=categorical or likelihood=discretised_gaussian"
        )

    @abstractmethod
    def mode(self, x_1: Tensor, gamma_1: Tensor, denoise: Denoise) -> Tensor:
        """Return the most probable x given x_1, in the data's units."""


class LevelLikelihood(Likelihood):
    """A likelihood of integer levels 0 … K − 1, encoded as level centres: k ↦ 2(k + ½)/K − 1 unless a scale says otherwise.

    Args:
        levels: K, at least 2; 256 for 8-bit images. Or the scale of the levels.

    Attributes:
        levels: K.
        scale: where the levels lie.

    Raises:
        InvalidInput: fewer than two levels.
    """

    def __init__(self, levels: Levels) -> None:
        super().__init__()
        if isinstance(levels, int) and levels < 2:
            raise InvalidInput(
                f"levels must be at least 2, got {levels}: 256 for 8-bit images, 17 for the digits; for real numbers use "
                "likelihood=gaussian"
            )
        self.scale = scale_of(levels)
        self.levels = self.scale.levels
        self.precision: Tensor
        self.register_buffer("precision", torch.empty(0), persistent=False)  # so that .double() reaches ``encode``

    def check(self, x: Tensor) -> None:
        if x.dtype == torch.uint8 and self.levels >= 256:  # no pass over data that may not fit into memory
            return
        low, high = x.min().item(), x.max().item()
        if low < 0 or high >= self.levels:
            raise InvalidInput(
                f"pixel values must be integer levels 0 … {self.levels - 1}, got values from {low} to {high}: pass the "
                "levels as they are stored, unscaled, or set levels= to the data's number of levels"
            )
        if x.is_floating_point() and not torch.equal(x, x.round()):
            raise InvalidInput(
                "pixel values must be whole levels, got fractions: pass the levels as they are stored, unscaled"
            )

    def encode(self, x: Tensor) -> Tensor:
        double = self.precision.dtype == torch.float64 and not x.is_floating_point()
        return self.scale.to_real(x.double() if double else x)

    def nearest(self, x_0: Tensor) -> Tensor:
        return self.scale.to_level(x_0)
