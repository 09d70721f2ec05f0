"""Guidance: samples that follow their condition more closely than the model does. No bound uses it."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vdm.bound import Denoise
from vdm.denoiser import with_condition
from vdm.errors import InvalidInput, finite
from vdm.given import Given
from vdm.networks.embedding import NO_LABEL, OptionalClassEmbedding
from vdm.parameterisations import Prediction


class Guidance(ABC):
    """The denoiser that a sampler calls."""

    @abstractmethod
    def __call__(self, given: Given) -> Denoise:
        """Return the denoiser for the parts that are given."""


class NoGuidance(Guidance):
    """The model's own."""

    def __call__(self, given: Given) -> Denoise:
        return given.denoise


class ClassifierFreeGuidance(Guidance):
    """x̂_0 = (1 + w) x̂_0(x_t, label) − w x̂_0(x_t), and ε̂ likewise (Ho & Salimans 2022, arXiv 2207.12598).

    w = 0 is the model's own; w = −1 ignores the label. Two calls of the network a step.

    Args:
        weight: w.
    """

    def __init__(self, weight: float) -> None:
        finite(weight=weight)
        self.weight = float(weight)

    def __call__(self, given: Given) -> Denoise:
        """Return the guided denoiser.

        Raises:
            InvalidInput: no labels, or a network that was not trained without them as well.
        """
        parts = given.denoiser.modules() if isinstance(given.denoiser, nn.Module) else ()
        if given.condition is None or not any(isinstance(part, OptionalClassEmbedding) for part in parts):
            raise InvalidInput(
                "guidance needs labels and a network that was trained with and without them: experiment=digits_guided is "
                "an example, whose condition is an OptionalClassEmbedding"
            )
        unlabelled = with_condition(given.denoiser, torch.full_like(given.condition, NO_LABEL))

        def denoise(x_t: Tensor, gamma_t: Tensor) -> Prediction:
            own, other = given.denoise(x_t, gamma_t), unlabelled(x_t, gamma_t)
            return Prediction(*(a + self.weight * (a - b) for a, b in zip(own, other, strict=True)))

        return denoise
