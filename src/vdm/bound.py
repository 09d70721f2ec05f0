"""The evidence lower bound, by term, and the interface of every model that has one.

Terms are in nats per example inside the code; ``Elbo.terms`` reports them in bits per dimension, ÷ (D ln 2).
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
"""``denoise(x_t, gamma_t)``: x_t (B, *event), gamma_t (B,) or (B, *event). The theory sees a network as this function."""


@dataclass(frozen=True)
class Elbo:
    """An estimate of the evidence lower bound (1.62) by term, in nats per example.

    Attributes:
        reconstruction: (B,), E log p(x_0 | x_1), the first term.
        prior_matching: (B,), KL(q(x_T | x_0) ‖ p(x_T)) ≥ 0, the second term.
        matching: (B, L), the third term by layer: the T − 1 denoising KLs, or one entry that estimates their sum.
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
    def ends(self) -> Tensor:
        """(B,), what the bound costs beside denoising matching: prior matching − reconstruction, in nats."""
        return self.prior_matching - self.reconstruction

    @property
    def total(self) -> Tensor:
        """(B,), reconstruction − prior matching − denoising matching, in nats; at most log p(x) in expectation."""
        return self.reconstruction - self.prior_matching - self.denoising_matching

    @property
    def bits_per_dim(self) -> Tensor:
        """(B,), −total / (D ln 2)."""
        return bits_per_dim(-self.total, self.dims)

    def terms(self) -> dict[str, Tensor]:
        """Return every reported number as a codelength in bits/dim, (B,) each.

        The three terms add up to ``bits_per_dim``; ``layer_1`` …, if ``matching`` has several, to ``denoising_matching``.
        """
        nats = [-self.total, -self.reconstruction, self.prior_matching, self.denoising_matching]
        layers = self.matching.unbind(1) if self.matching.shape[1] > 1 else ()
        names = term_names(self.matching.shape[1])
        return {name: bits_per_dim(value, self.dims) for name, value in zip(names, [*nats, *layers], strict=True)}


class Loss(NamedTuple):
    """The loss of one training step.

    Attributes:
        value: (B,), to be minimised.
        bound: the bound, from the same draws.
        gamma_t: (B,) or (B, *event), the noise level of a one-t estimate; None for a model without one.
    """

    value: Tensor
    bound: Elbo
    gamma_t: Tensor | None = None


class VariationalModel(nn.Module, ABC):
    """A model with an ELBO: the interface for training, evaluation and the commands."""

    @property
    def matching_entries(self) -> int:
        """L, the entries of ``elbo(x).matching``: one estimate of the whole term, unless the model overrides it."""
        return 1

    @property
    def independent_draws(self) -> bool:
        """Whether ``elbo`` draws for each example independently of the others, so that error bars may pool examples.

        False unless the model knows: error bars then rest on whole replicates, which are independent in any case.
        """
        return False

    @property
    def term_names(self) -> tuple[str, ...]:
        """The keys of ``elbo(x).terms()``."""
        return term_names(self.matching_entries)

    def init_from_data(self, x: Tensor) -> None:
        """Pass the training examples x (N, *event) to every ``DataDependentInit`` part, before the first step."""
        for part in self.modules():
            if isinstance(part, DataDependentInit):
                part.init_from_data(x)

    @abstractmethod
    def check(self, x: Tensor) -> None:
        """Raise InvalidInput, with one line, if ``x`` is not a possible value of the data."""

    @abstractmethod
    def loss(self, batch: Batch, draws: AbstractDraws) -> Loss:
        """Estimate the training loss; cheap and unbiased."""

    @abstractmethod
    def elbo(self, x: Tensor, draws: AbstractDraws | None = None, condition: Tensor | None = None) -> Elbo:
        """Estimate the bound of each example of ``x`` (B, *event); unbiased."""

    @abstractmethod
    def log_weight(self, x: Tensor, draws: AbstractDraws | None = None, condition: Tensor | None = None) -> Tensor:
        """Return log p(x, z_{1:T}) − log q(z_{1:T} | x) on one whole trajectory of q, (B,) in nats: the inside of (1.32).

        The mean of its exponential is p(x), which holds for no estimate from one t or with closed-form KLs.
        """

    @abstractmethod
    def sample(
        self, n: int, event_shape: tuple[int, ...], *, draws: AbstractDraws | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """Draw ``n`` samples in the data's own units, (n, *event_shape)."""
