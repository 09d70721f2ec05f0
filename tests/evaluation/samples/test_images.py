"""Images of trajectories and noised examples."""

import pytest
import torch
from hydra.utils import instantiate

from support.catalogue import composed
from support.tasks import parts
from vdm.evaluation.samples.images import (
    COLUMNS,
    draw_denoised,
    draw_examples,
    draw_noising,
    draw_trajectory,
    noised_examples,
)
from vdm.plots.images import CAPTION_HEIGHT, LABEL_WIDTH, image_grid, labelled


def test_images_over_time_run_from_left_to_right():
    """Two rows per example, x_t above x̂_0; captions only add space at the top."""
    data, _ = parts()
    kinds = [[torch.full((2, 1, 8, 8), 8 * kind + column) for column in range(COLUMNS)] for kind in range(2)]
    kinds[0][3][1] = 16
    picture = data.source.frames(dict(zip(("x_t", "x̂₀"), kinds, strict=True)), [""] * COLUMNS)
    plain = picture.crop((LABEL_WIDTH, CAPTION_HEIGHT, *picture.size))
    grey = [[plain.getpixel((66 * column + 30, 66 * row + 30)) for column in range(COLUMNS)] for row in range(4)]
    expected = [[round(255 * (8 * kind + column) / 16) for column in range(COLUMNS)] for kind in (0, 1, 0, 1)]
    expected[2][3] = 255
    assert grey == expected
    assert (
        labelled(plain, ["x₀", "γ = −8.0"]).crop((0, CAPTION_HEIGHT, plain.width, picture.height)).tobytes()
        == plain.tobytes()
    )


def test_noised_examples_follow_q_from_data_to_noise():
    """Figure 1.4: the path starts at the data, and the noise added in each step is standard normal."""
    data, task = parts("schedule=cosine", "model.sampling.steps=3")
    model = task.evaluated
    noising = noised_examples(model, data, seed=0)
    x = data.splits()["test"].x[:4]
    picture = draw_noising(model, data, noising)
    tile = image_grid(x[:1], levels=17).crop((0, 0, 66, 66))
    left, top = LABEL_WIDTH, CAPTION_HEIGHT
    assert picture.crop((left, top, left + 66, top + 66)).tobytes() == tile.tobytes()
    gammas = torch.stack([latent.gamma_t[0] for latent in noising.latents])
    assert gammas[[0, -1]].tolist() == pytest.approx([-8.0, 5.0])
    before, innovations = model.likelihood.encode(x), []
    for i, (x_t, _) in enumerate(noising.latents):
        alpha = torch.sigmoid(-gammas[i]) / (torch.sigmoid(-gammas[i - 1]) if i else 1.0)
        innovations.append((x_t - alpha.sqrt() * before) / (1 - alpha).sqrt())
        before = x_t
    z = torch.stack(innovations).flatten().double()
    assert abs(z.mean()) < 4 / len(z) ** 0.5
    assert abs(z.square().mean() - 1) < 4 * (2 / len(z)) ** 0.5
    assert draw_trajectory(model, data, seed=0).size == (picture.width, 2 * (picture.height - top) - 2 + top)


@pytest.mark.slow
def test_draw_noising_accepts_points_of_the_plane():
    config = composed("experiment=toy", "model.sampling.steps=2", "data.sizes.test=20")
    data, model = instantiate(config.data), instantiate(config.model)
    noising = noised_examples(model, data, seed=0)
    noisy, denoised = draw_noising(model, data, noising), draw_denoised(model, data, noising)
    assert noisy.width > 6 * noisy.height  # one line of panels, not a strip of copies of the density
    assert denoised.height > 1.6 * noisy.height  # x_t, and below it the prediction


def test_pictures_use_the_levels_of_the_model():
    """The digits' 17 levels are half of 33: level 16 is middle grey; of two levels, 1 is white."""
    data, task = parts("levels=33")
    assert max(draw_examples(task.evaluated, data, 8).tobytes()) == 128
    assert set(data.picture(torch.tensor([0, 1]).repeat(32).view(1, 1, 8, 8), 2).tobytes()) == {0, 96, 255}
