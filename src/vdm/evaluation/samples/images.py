"""Draw images of samples, noising and sampling trajectories, and latents."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from vdm.bound import VariationalModel
from vdm.consistency import latents
from vdm.data import DataModule
from vdm.draws import ExampleDraws
from vdm.elbo import DiscreteTime
from vdm.gamma import event_mean
from vdm.given import Given
from vdm.models import DiffusionModel, LatentModel
from vdm.plots.images import labelled
from vdm.samplers import Latent

COLUMNS = 8
"""Number of steps in time side by side."""

CURRENT, PREDICTED = "x_t", "x̂₀"
"""Labels of rows: a latent, and the denoiser's prediction from it."""


def draw_samples(model: VariationalModel, data: DataModule, n: int, seed: int) -> Image.Image:
    """Draw ``n`` samples, with noise keyed by (seed, number of the sample)."""
    draws, condition = ExampleDraws(torch.arange(n), seed), data.sampling_condition(n)
    if condition is not None:
        condition = condition.to(next(model.parameters()).device)
    return data.picture(model.sample(n, data.event_shape, draws=draws, condition=condition), levels_of(model))


def draw_examples(model: VariationalModel, data: DataModule, n: int) -> Image.Image:
    """Draw the first ``n`` test examples as ``draw_samples`` draws samples, to be set beside them."""
    return data.picture(data.splits()["test"].x[:n], levels_of(model))


def levels_of(model: VariationalModel) -> int | None:
    """Return the number of integer levels that a model's data have, or None for real numbers."""
    return getattr(getattr(model, "likelihood", None), "levels", None)


def draw_reconstructions(model: LatentModel, data: DataModule, seed: int, each: int = 3) -> Image.Image:
    """Draw test examples in the first row and, below each, ``each`` reconstructions x̃ ~ p(x | z), z ~ q(z | x)."""
    x = data.splits()["test"].x[:COLUMNS].to(next(model.parameters()).device)
    rows = [x]
    for repeat in range(each):
        draws = ExampleDraws(torch.arange(len(x)), seed, repeat)
        rows.append(model.generate(model.latents(x, draws), draws))
    return labelled(data.picture(torch.cat(rows), levels_of(model)), [], ["test", *["draw"] * each])


def draw_traversals(model: LatentModel, data: DataModule, seed: int) -> Image.Image:
    """Draw one row per layer, z_1 first: the first test example with z_t's most informative coordinate from −3 to 3."""
    x = data.splits()["test"].x[:1].repeat(COLUMNS, *[1] * len(data.event_shape)).to(next(model.parameters()).device)
    draws = ExampleDraws(torch.zeros(COLUMNS, dtype=torch.long), seed)
    reach = torch.linspace(-3, 3, COLUMNS, device=x.device)
    rows = [model.traverse(x, t, reach, draws) for t in range(1, model.layers + 1)]
    captions = [f"{value:+.1f} σ".replace("-", "−") for value in reach.tolist()]
    return labelled(data.picture(torch.cat(rows), levels_of(model)), captions, [f"z_{t}" for t in range(1, len(rows) + 1)])


class NoisedExamples(NamedTuple):
    """Test examples x (n, *event) and the latents of one joint trajectory x_1 … x_T ~ q(· | x_0), evenly spaced in t."""

    x: Tensor
    given: Given
    latents: list[Latent]

    @property
    def captions(self) -> list[str]:
        return ["x₀", *(noise_level(latent) for latent in self.latents)]


def noise_level(latent: Latent) -> str:
    """Return γ of the first example, as a caption."""
    return f"γ = {event_mean(latent.gamma_t)[0]:.1f}".replace("-", "−")


def examples_per_image(data: DataModule) -> int:
    """Return the number of examples in one picture: few images, or many points."""
    return 4 if len(data.event_shape) == 3 else 500


@torch.no_grad()
def noised_examples(model: DiffusionModel, data: DataModule, seed: int) -> NoisedExamples:
    """Draw a trajectory of (1.33) with T = ``COLUMNS`` − 1 from γ_min to γ_max, each x_t from x_{t−1}."""
    split, device = data.splits()["test"], next(model.parameters()).device
    x = split.x[: examples_per_image(data)].to(device)
    condition = None if split.condition is None else split.condition[: len(x)].to(device)
    draws = ExampleDraws(torch.arange(len(x)), seed)
    given = model.given(x, draws, condition)
    gammas = DiscreteTime(COLUMNS - 1).gammas(given.schedule, x)
    chain = latents(model.likelihood.encode(x), gammas, draws, given.process)
    return NoisedExamples(x, given, [Latent(at.x_t, at.gamma_t) for at in chain])


def draw_noising(model: DiffusionModel, data: DataModule, noising: NoisedExamples) -> Image.Image:
    """Draw examples and their noisy versions x_t step by step, rounded to the data's nearest values."""
    return data.source.frames({CURRENT: [noising.x, *_nearest(model, noising.latents)]}, noising.captions, levels_of(model))


@torch.no_grad()
def draw_denoised(model: DiffusionModel, data: DataModule, noising: NoisedExamples) -> Image.Image:
    """Draw each x_t of the trajectory and, below it, the denoiser's prediction x̂_0(x_t)."""
    predicted = [model.most_probable(latent, noising.given) for latent in noising.latents]
    rows = {CURRENT: [noising.x, *_nearest(model, noising.latents)], PREDICTED: [noising.x, *predicted]}
    return data.source.frames(rows, noising.captions, levels_of(model))


@torch.no_grad()
def draw_trajectory(model: DiffusionModel, data: DataModule, seed: int, steps: int | None = None) -> Image.Image:
    """Draw x_t along the sampler and, below it, x̂_0(x_t), for the first samples that ``model.sample`` would return."""
    n, steps = examples_per_image(data), model.default_steps if steps is None else steps
    condition = data.sampling_condition(n)
    condition = None if condition is None else condition.to(next(model.parameters()).device)
    chosen = [round(steps * i / (COLUMNS - 1)) for i in range(COLUMNS)]
    draws = ExampleDraws(torch.arange(n), seed)
    path = model.trajectory(n, data.event_shape, steps=steps, draws=draws, condition=condition)
    found = {number: latent for number, latent in enumerate(path) if number in chosen}
    shown = [found[number] for number in chosen]
    predicted = [model.predict_data(latent, condition, draws) for latent in shown]
    rows = {CURRENT: _nearest(model, shown), PREDICTED: predicted}
    return data.source.frames(rows, [noise_level(latent) for latent in shown], levels_of(model))


def _nearest(model: DiffusionModel, latents: Sequence[Latent]) -> list[Tensor]:
    return [model.likelihood.nearest(latent.x_t) for latent in latents]
