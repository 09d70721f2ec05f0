"""Networks that know the number of a step instead of a noise level."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vdm.gamma import interpolate
from vdm.schedules import table_gammas


class StepNumber(ABC):
    """The step number of a noise level, by the table of α that the network was trained with.

    Args:
        alphas: α_1 … α_N, each in (0, 1).
        scale: the network sees ``scale`` n for n = 0 … N − 1.
    """

    discrete_only: str | None = None
    """Why a network with these numbers has no bound in continuous time, or None."""

    def __init__(self, alphas: Sequence[float], scale: float = 1.0) -> None:
        self.gammas, self.scale = table_gammas(alphas), float(scale)

    @abstractmethod
    def __call__(self, gamma: Tensor) -> Tensor:
        """Map γ (B,) to what the network sees of it, (B,)."""

    def _gammas(self, like: Tensor) -> Tensor:
        if self.gammas.device != like.device:
            self.gammas = self.gammas.to(like.device)
        return self.gammas.to(like.dtype)


class NearestStep(StepNumber):
    """The step whose γ is nearest: exact for the latents of the table."""

    discrete_only = (
        "this network knows the steps of its table only, so it has no bound in continuous time: use discrete time, or "
        "choose vdm.networks.InterpolatedStep by name"
    )

    def __call__(self, gamma: Tensor) -> Tensor:
        gammas = self._gammas(gamma)
        after = torch.searchsorted(gammas, gamma.contiguous()).clamp(1, len(gammas) - 1)
        nearer = (gamma - gammas[after - 1] > gammas[after] - gamma).long()
        return (after - 1 + nearer).to(gamma.dtype) * self.scale


class InterpolatedStep(StepNumber):
    """A fraction of a step, linear in γ between the table's; the network was not trained on it."""

    def __call__(self, gamma: Tensor) -> Tensor:
        gammas = self._gammas(gamma)
        return interpolate(gammas, torch.arange(len(gammas)).to(gammas), gamma) * self.scale


class StepNetwork(nn.Module):
    """(x_t, γ_t, condition) ↦ y from a network (x_t, step number, condition) ↦ y.

    Args:
        network: of x_t (B, *event), numbers (B,) in x_t's dtype, and a condition or None.
        steps: from γ to the number.
    """

    def __init__(self, network: nn.Module, steps: StepNumber) -> None:
        super().__init__()
        self.network, self.steps, self.discrete_only = network, steps, steps.discrete_only
        self.outputs = int(getattr(network, "outputs", 1))

    def forward(self, x_t: Tensor, gamma_t: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.network(x_t, self.steps(gamma_t), condition)
