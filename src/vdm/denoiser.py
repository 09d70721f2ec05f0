"""The denoiser: a network and a parameterisation of its output, as one function of (x_t, γ_t)."""

from functools import partial

from torch import Tensor, nn

from vdm.bound import Denoise
from vdm.errors import InvalidInput
from vdm.gamma import event_mean
from vdm.parameterisations import Parameterisation, Prediction


class Denoiser(nn.Module):
    """``denoise(x_t, gamma_t) -> Prediction`` from a network (x_t, γ_t, condition) ↦ y and a parameterisation.

    The network gets one noise level an example: the mean, if γ has one value a dimension.

    It sees x_t in its weights' dtype, and its output is converted to x_t's dtype before x̂_0 is formed: the step from y to
    the loss never runs in the network's lower precision.

    Args:
        network: (x_t, γ_t, condition) ↦ y.
        parameterisation: the meaning of y.

    Raises:
        InvalidInput: ``network.outputs`` differs from ``parameterisation.outputs``.
    """

    def __init__(self, network: nn.Module, parameterisation: Parameterisation) -> None:
        super().__init__()
        wanted, given = parameterisation.outputs, getattr(network, "outputs", parameterisation.outputs)
        if wanted != given:
            raise InvalidInput(
                f"{type(parameterisation).__name__} needs {wanted} outputs a dimension, and the network has {given}: set "
                f"outputs={wanted} of the network"
            )
        self.network = network
        self.parameterisation = parameterisation

    def forward(self, x_t: Tensor, gamma_t: Tensor, condition: Tensor | None = None) -> Prediction:
        """x_t (B, *event), gamma_t (B,) or (B, *event), condition (B, …) or None."""
        dtype = next(self.parameters(), x_t).dtype
        seen = self.parameterisation.network_input(x_t, gamma_t).to(dtype)
        y = self.network(seen, event_mean(gamma_t).to(dtype), condition)
        return self.parameterisation.predict(y.to(x_t.dtype), x_t, gamma_t)

    def with_condition(self, condition: Tensor | None) -> Denoise:
        """Return the denoiser with its condition bound."""
        return partial(self, condition=condition)


def with_condition(denoiser: Denoise, condition: Tensor | None) -> Denoise:
    """Return ``denoiser`` with its condition bound, and with γ converted to x_t's dtype.

    Raises:
        InvalidInput: a condition for a denoiser without a method ``with_condition``.
    """
    if condition is not None:
        if not hasattr(denoiser, "with_condition"):
            raise InvalidInput("this denoiser takes no condition: give it a method with_condition(condition)")
        denoiser = denoiser.with_condition(condition)

    def denoise(x_t: Tensor, gamma_t: Tensor) -> Prediction:
        return denoiser(x_t, gamma_t.to(x_t.dtype))

    return denoise
