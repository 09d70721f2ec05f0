"""What a bound is, and what a model with a bound can do.

Terms are in nats per example inside the code. The one conversion to bits per dimension, ÷ (D ln 2), is here.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from vdm.batch import Batch
from vdm.draws import AbstractDraws
from vdm.parameterisations import DataDependentInit, Prediction
from vdm.terms import bits_per_dim, term_names

Denoise = Callable[[Tensor, Tensor], Prediction]
"""``denoise(x_t, gamma_t)``: x_t (B, *event), gamma_t (B,) or (B, *event). All the theory knows of a network."""


@dataclass(frozen=True)
class Elbo:
    """An estimate of the evidence lower bound (1.62) by term, in nats per example.

    Attributes:
        reconstruction: (B,), E log p(x_0 | x_1).
        prior_matching: (B,), KL(q(x_T | x_0) ‖ p(x_T)) ≥ 0.
        matching: (B, L), one entry a layer: the T − 1 denoising KLs, or one entry that estimates their sum.
        dims: D, the dimensions of an example.
    """

    reconstruction: Tensor
    prior_matching: Tensor
    matching: Tensor
    dims: int

    @property
    def denoising_matching(self) -> Tensor:
        """(B,), Σ_t KL(q(x_{t−1} | x_t, x_0) ‖ p_θ(x_{t−1} | x_t)), in nats."""
        return self.matching.sum(1)

    @property
    def total(self) -> Tensor:
        """(B,), reconstruction − prior matching − denoising matching, in nats; at most log p(x) in expectation."""
        return self.reconstruction - self.prior_matching - self.denoising_matching

    @property
    def bits_per_dim(self) -> Tensor:
        """(B,), −total / (D ln 2)."""
        return bits_per_dim(-self.total, self.dims)

    def terms(self) -> dict[str, Tensor]:
        """Every reported number as a codelength in bits/dim, (B,) each.

        The three terms add up to ``bits_per_dim``; ``layer_1`` …, if ``matching`` has several, to ``denoising_matching``.
        """
        nats = [-self.total, -self.reconstruction, self.prior_matching, self.denoising_matching]
        layers = self.matching.unbind(1) if self.matching.shape[1] > 1 else ()
        names = term_names(self.matching.shape[1])
        return {name: bits_per_dim(value, self.dims) for name, value in zip(names, [*nats, *layers], strict=True)}


class Loss(NamedTuple):
    """What one training step needs: ``value`` (B,), to be minimised, and the bound seen in passing.

    gamma_t: (B,) or (B, *event), the noise level at which a one-t estimate looked; None for a model without one.
    """

    value: Tensor
    bound: Elbo
    gamma_t: Tensor | None = None


class VariationalModel(nn.Module, ABC):
    """Something with an ELBO: all that training, evaluation and the commands know of a model."""

    @property
    def matching_entries(self) -> int:
        """L, the entries of ``elbo(x).matching``: one estimate of the whole term, unless the model overrides it."""
        return 1

    def init_from_data(self, x: Tensor) -> None:
        """Show the training examples x (N, *event) to the parts that take something from them before the first step."""
        for part in self.modules():
            if isinstance(part, DataDependentInit):
                part.init_from_data(x)

    @abstractmethod
    def check(self, x: Tensor) -> None:
        """Raises InvalidInput, with one line, where ``x`` is not a possible value of the data."""

    @abstractmethod
    def loss(self, batch: Batch, draws: AbstractDraws) -> Loss:
        """One cheap, unbiased training estimate."""

    @abstractmethod
    def elbo(self, x: Tensor, draws: AbstractDraws | None = None, condition: Tensor | None = None) -> Elbo:
        """One unbiased estimate of the bound for each example of ``x`` (B, *event)."""

    @abstractmethod
    def log_weight(self, x: Tensor, draws: AbstractDraws | None = None, condition: Tensor | None = None) -> Tensor:
        """log p(x, z_{1:T}) − log q(z_{1:T} | x) on one whole trajectory of q, (B,) in nats: the inside of (1.32).

        E exp of it is p(x). Estimates from one t, or with closed-form KLs, do not have this and are no log-weights.
        """

    @abstractmethod
    def sample(
        self, n: int, event_shape: tuple[int, ...], *, draws: AbstractDraws | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """``n`` samples in the data's own units, (n, *event_shape)."""
