"""What a diffusion model does to examples and to noise, as pictures: the chapter's figure 1.4, and the way back."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from vdm.bound import VariationalModel
from vdm.data import InMemoryData
from vdm.draws import ExampleDraws
from vdm.elbo import DiscreteTime
from vdm.gamma import event_mean
from vdm.models import VDM
from vdm.pictures import captioned, stacked
from vdm.samplers import Latent
from vdm.training.media import FinalPictures

COLUMNS = 8
"""Places in time side by side; as many as a data set's own pictures of images have columns."""


def progress(data: InMemoryData, rows: Sequence[Sequence[Tensor]], captions: Sequence[str]) -> Image.Image:
    """Data (n, *event) at each of ``COLUMNS`` places in time: of images, for every example the given rows over time.

    What is no image has a picture a place, one below another, of the last of the rows.
    """
    if len(data.event_shape) == 3:
        cells = torch.stack([torch.stack(list(row), 1) for row in rows], 1)
        return captioned(data.picture(cells.flatten(0, 2).cpu()), captions)
    frames = zip(rows[-1], captions, strict=True)
    return stacked([captioned(data.picture(frame.cpu()), [caption]) for frame, caption in frames])


class Noising(NamedTuple):
    """Test examples x (n, *event) and latents of one joint trajectory x_1 … x_T ~ q(· | x_0), even in t."""

    x: Tensor
    condition: Tensor | None
    latents: list[Latent]

    @property
    def captions(self) -> list[str]:
        return ["x₀", *(noise_level(latent) for latent in self.latents)]


def noise_level(latent: Latent) -> str:
    """γ of the first example, for a caption."""
    return f"γ = {event_mean(latent.gamma_t)[0]:.1f}".replace("-", "−")


def shown(data: InMemoryData) -> int:
    """How many examples one picture holds: few images, or many points."""
    return 4 if len(data.event_shape) == 3 else 500


@torch.no_grad()
def noised_examples(model: VDM, data: InMemoryData, seed: int) -> Noising:
    """(1.33) with T = ``COLUMNS`` − 1, from γ_min to γ_max; each x_t is made of the one before it, as in figure 1.4."""
    split, device = data.splits()["test"], next(model.parameters()).device
    x = split.x[: shown(data)].to(device)
    condition = None if split.condition is None else split.condition[: len(x)].to(device)
    time = DiscreteTime(COLUMNS - 1)
    z = model.at(time).as_mhvae().latents(x, ExampleDraws(torch.arange(len(x)), seed), condition)
    return Noising(x, condition, [Latent(x_t, time.gamma(model.schedule, i, x_t)) for i, x_t in enumerate(z, 1)])


def draw_noising(model: VDM, data: InMemoryData, noising: Noising) -> Image.Image:
    """Figure 1.4: an example and what noise makes of it, step by step, as the data's nearest values."""
    return progress(data, [[noising.x, *_nearest(model, noising.latents)]], noising.captions)


@torch.no_grad()
def draw_denoised(model: VDM, data: InMemoryData, noising: Noising) -> Image.Image:
    """Below each x_t of the same trajectory x̂_0(x_t), what the denoiser makes of it."""
    seen = [model.guess(latent, noising.condition) for latent in noising.latents]
    rows = [[noising.x, *_nearest(model, noising.latents)], [noising.x, *seen]]
    return progress(data, rows, noising.captions)


@torch.no_grad()
def draw_trajectory(model: VDM, data: InMemoryData, seed: int, steps: int | None = None) -> Image.Image:
    """Samples on their way from noise, x_t and below it x̂_0(x_t): the first of those that ``model.sample`` draws."""
    n, steps = shown(data), model.default_steps if steps is None else steps
    condition = data.sampling_condition(n)
    condition = None if condition is None else condition.to(next(model.parameters()).device)
    places = [round(steps * i / (COLUMNS - 1)) for i in range(COLUMNS)]
    draws = ExampleDraws(torch.arange(n), seed)
    latents = model.trajectory(n, data.event_shape, steps=steps, draws=draws, condition=condition)
    seen = {number: latent for number, latent in enumerate(latents) if number in places}
    way = [seen[place] for place in places]
    rows = [_nearest(model, way), [model.guess(latent, condition) for latent in way]]
    return progress(data, rows, [noise_level(latent) for latent in way])


def _nearest(model: VDM, latents: Sequence[Latent]) -> list[Tensor]:
    return [model.likelihood.nearest(latent.x_t) for latent in latents]


class DiffusionPictures(FinalPictures):
    """noising.png, denoised.png and trajectory.png, of diffusion models."""

    def draw(self, model: VariationalModel, data: InMemoryData) -> dict[str, Image.Image]:
        if not isinstance(model, VDM):
            return {}
        noising = noised_examples(model, data, self.seed)
        return {
            "noising": draw_noising(model, data, noising),
            "denoised": draw_denoised(model, data, noising),
            "trajectory": draw_trajectory(model, data, self.seed),
        }
