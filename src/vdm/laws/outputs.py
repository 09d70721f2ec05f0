"""The laws of parameterisations, denoisers, objectives and divergences."""

import math

import torch
from torch import Tensor

from vdm.bound import Denoise
from vdm.divergence import Divergence
from vdm.draws import Draws
from vdm.gamma import signal_and_noise
from vdm.laws.law import require, spread, zeros
from vdm.likelihoods.discretised import ReconstructionVariance
from vdm.objectives import Objective
from vdm.parameterisations import Parameterisation, Prediction
from vdm.process import q_sample


def check_parameterisation(
    parameterisation: Parameterisation, ends: tuple[float, float] = (-6.0, 4.0), tolerance: float = 1e-4
) -> None:
    """Hold ``predict`` to x_t = √ᾱ x̂_0 + σ ε̂ for any output, and to the data and the noise for a perfect one.

    Args:
        ends: of γ. tolerance: of x̂_0 and ε̂, relative and absolute.
    """
    like, n = zeros(parameterisation), 64
    gamma = spread(n, *ends, like)
    x_0 = spread(n, -0.95, 0.95, like)[torch.arange(n) * 27 % n].view(n, 1, 1, 1)
    eps = Draws(0).normal("eps", x_0)
    x_t = q_sample(x_0, eps, gamma)
    y = parameterisation.target(x_0, eps, gamma)
    disturbed = y + 0.1 * Draws(1).normal("y", y)
    check_prediction(parameterisation.predict(disturbed, x_t, gamma), x_t, gamma)
    found = parameterisation.predict(y, x_t, gamma)
    for name, value, due in (("x_0", found.x_0, x_0), ("eps", found.eps, eps)):
        require(value.shape == due.shape, f"{name} has the shape {tuple(value.shape)}, but x_t {tuple(due.shape)}")
        error = (value - due).abs().flatten(1).max(1).values.nan_to_num(math.inf)
        at = int(error.argmax())
        require(
            error[at].item() <= tolerance * (1 + due[at].abs().max().item()),
            f"at gamma = {gamma[at]:.3g} a perfect output gives {name} = {value[at].flatten()[0]:.6g}, but it is "
            f"{due[at].flatten()[0]:.6g}",
        )


def check_prediction(prediction: Prediction, x_t: Tensor, gamma: Tensor) -> None:
    """Hold a prediction to x_t = √ᾱ x̂_0 + σ ε̂; x_t (B, *event), gamma (B,)."""
    signal, noise = signal_and_noise(gamma, x_t)
    joined = signal * prediction.x_0 + noise * prediction.eps
    scale = 1 + x_t.abs() + (signal * prediction.x_0).abs()
    error = ((joined - x_t).abs() / scale).flatten(1).max(1).values.nan_to_num(math.inf)
    at = int(error.argmax())
    where = int(((joined - x_t).abs() / scale)[at].flatten().nan_to_num(math.inf).argmax())
    require(
        error[at].item() <= (1e-4 if x_t.dtype == torch.float64 else 1e-2),
        f"at gamma = {gamma[at].mean():.3g} its x_0 and eps make x_t = {joined[at].flatten()[where]:.6g}, but x_t is "
        f"{x_t[at].flatten()[where]:.6g}",
    )


def check_denoiser(denoise: Denoise, x_0: Tensor) -> None:
    """Hold a denoiser to ``check_prediction`` on noised examples x_0 (B, *event)."""
    gamma = torch.linspace(-6, 4, len(x_0), dtype=x_0.dtype, device=x_0.device)
    x_t = q_sample(x_0, Draws(0).normal("eps", x_0), gamma)
    check_prediction(denoise(x_t, gamma), x_t, gamma)


def check_objective(objective: Objective) -> None:
    """Hold w(γ) to be finite, at least zero, and elementwise."""
    gamma = spread(200, -13.0, 5.0, zeros(objective))
    weight = objective.weight(gamma)
    require(weight.shape == gamma.shape, f"weight has the shape {tuple(weight.shape)}, but gamma {tuple(gamma.shape)}")
    at = int(torch.where(torch.isfinite(weight), weight, -torch.inf).argmin())
    found = weight[at].item()
    require(math.isfinite(found) and found >= 0, f"weight({gamma[at]:.4g}) = {found:.4g}, but a weight is at least 0")
    alone = objective.weight(gamma[:1])[0].item()
    together = weight[0].item()
    require(
        abs(alone - together) <= 1e-5 * (1 + abs(alone)),
        f"weight({gamma[0]:.4g}) = {alone:.6g} alone, but {together:.6g} in a batch",
    )


def check_variance(variance: ReconstructionVariance) -> None:
    """Hold σ² to be positive and of γ_1's shape."""
    gamma = spread(50, -13.0, 5.0, zeros(variance))
    found = variance(gamma)
    require(found.shape == gamma.shape, f"variance has the shape {tuple(found.shape)}, but gamma_1 {tuple(gamma.shape)}")
    least = found.nan_to_num(-1.0).min().item()
    require(least > 0, f"the least variance is {least:.4g}, but a variance is positive")


def check_divergence(divergence: Divergence) -> None:
    """Hold an estimate of ∇·f to the trace for f(x) = A x, within five standard errors of 4,096 probes."""
    matrix = torch.tensor([[0.7, -0.4, 0.2], [0.5, -1.1, 0.3], [-0.2, 0.6, 1.9]], dtype=torch.float64)
    x = Draws(0).normal("x", torch.zeros(4096, 3, dtype=torch.float64))
    _, trace = divergence(lambda x: x @ matrix.T, x, divergence.probes(Draws(1), x))
    found, due = trace.mean().item(), matrix.trace().item()
    error = 5 * trace.std().item() / len(x) ** 0.5 + 1e-9
    require(abs(found - due) <= error, f"the divergence of a linear field is {found:.4g}, but its trace {due:.4g}")
