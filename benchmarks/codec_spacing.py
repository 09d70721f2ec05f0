"""Measure how many latents a codec needs for a bound close to that at T = ∞, by the spacing of the latents in γ.

    python benchmarks/codec_spacing.py ckpt=logs/…/checkpoints/best.ckpt

The bound at T is a left Riemann sum of ∫ ½ e(γ) dSNR (``vdm.codec.spacing``). e(γ) is measured once, on a whole split and a
fine grid of γ with the same noise at all of them, and every sum is taken from its interpolation: differences between T and
T = ∞ are then free of the noise that two estimates of the bound would add. The densities are measured as the codec
measures them, on the first images.
"""

import sys

import torch

from vdm.cli.command import words
from vdm.codec import EvenInGamma, EvenInTime, LeastExcess
from vdm.codec.chain import prepared
from vdm.codec.spacing import edges, spaced_time
from vdm.draws import Draws
from vdm.elbo import prior_matching, reconstruction
from vdm.gamma import event_dims, event_mean, snr_difference
from vdm.process import q_sample
from vdm.runs.load import load_run
from vdm.terms import bits_per_dim

FINE, ROWS = 400, 300

COUNTS = (25, 50, 100, 200, 300, 400, 600, 1000)

GRIDS = {"least excess": LeastExcess(), "even in γ": EvenInGamma(), "even in t": EvenInTime()}


@torch.no_grad()
def main() -> None:
    given = words(sys.argv[1:], ("ckpt", "split"), "codec_spacing.py ckpt=… split=test")
    run = load_run(given["ckpt"])
    x = run.data.split(given.get("split", "test")).x
    schedule, denoise, likelihood = run.model.schedule, run.model.denoiser, run.model.likelihood
    x_0, eps = likelihood.encode(x), Draws(0).normal("x_t", likelihood.encode(x))
    times, dims = edges(schedule, FINE), event_dims(x)

    def error(t: torch.Tensor) -> torch.Tensor:
        """e summed over dimensions and averaged over images."""
        parts = []
        for rows in torch.arange(len(x)).split(ROWS):
            gamma = schedule(t.expand(len(rows)))
            x_hat = denoise(q_sample(x_0[rows], eps[rows], gamma), gamma.float()).x_0
            parts.append((x_hat - x_0[rows]).double().square().flatten(1).sum(1))
        return torch.cat(parts).mean()

    gammas, errors = event_mean(schedule(times)), torch.stack([error(t) for t in times])

    def at(gamma: torch.Tensor) -> torch.Tensor:
        k = (torch.searchsorted(gammas, gamma) - 1).clamp(0, FINE - 1)
        return errors[k] + (errors[k + 1] - errors[k]) * (gamma - gammas[k]) / (gammas[k + 1] - gammas[k])

    def denoising(gamma: torch.Tensor) -> torch.Tensor:
        return 0.5 * (snr_difference(gamma[:-1], gamma[1:]) * at(gamma[1:])).sum()

    first, last = (schedule(torch.full((len(x),), t, dtype=torch.float64)) for t in (0.0, 1.0))
    ends = (prior_matching(x_0, last) - reconstruction(likelihood, x, x_0, eps, first, denoise)).double().mean()
    limit = bits_per_dim(ends + denoising(torch.linspace(gammas[0], gammas[-1], 200_001, dtype=torch.float64)), dims)
    print(f"bound at T = ∞: {limit:.4f} bits/dim, {len(x)} images\n\n| T | " + " | ".join(GRIDS) + " |")
    own = prepared(run.model)
    densities = {name: grid.density(own, x, None) for name, grid in GRIDS.items()}
    for T in COUNTS:
        cells = []
        for density in densities.values():
            gamma = event_mean(torch.cat(spaced_time(schedule, T, density).gammas(schedule, torch.zeros(1, 1))))
            cells.append(f"{100 * (bits_per_dim(ends + denoising(gamma), dims) / limit - 1):.2f} %")
        print(f"| {T} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
