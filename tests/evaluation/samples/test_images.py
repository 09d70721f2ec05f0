"""Images of trajectories and noised examples."""

import pytest
import torch
from hydra.utils import instantiate

from support.catalogue import composed
from support.tasks import parts
from vdm.evaluation.samples.images import COLUMNS, draw_noising, draw_trajectory, images_over_time, noised_examples
from vdm.plots.images import image_grid, with_captions


def test_images_over_time_run_from_left_to_right():
    """Two rows per example, x_t above x̂_0; captions only add space at the top."""
    data, _ = parts()
    rows = [[torch.full((2, 1, 8, 8), 8 * kind + column) for column in range(COLUMNS)] for kind in range(2)]
    rows[0][3][1] = 16
    picture = images_over_time(data, rows, [""] * COLUMNS)
    plain = picture.crop((0, 20, *picture.size))
    grey = [[plain.getpixel((66 * column + 30, 66 * row + 30)) for column in range(COLUMNS)] for row in range(4)]
    expected = [[round(255 * (8 * kind + column) / 16) for column in range(COLUMNS)] for kind in (0, 1, 0, 1)]
    expected[2][3] = 255
    assert grey == expected
    assert with_captions(plain, ["x₀", "γ = −8.0"]).crop((0, 20, *picture.size)).tobytes() == plain.tobytes()


def test_noised_examples_follow_q_from_data_to_noise():
    """Figure 1.4: the path starts at the data, and the noise added in each step is standard normal."""
    data, task = parts("schedule=cosine", "model.sampling.steps=3")
    model = task.evaluated
    noising = noised_examples(model, data, seed=0)
    x = data.splits()["test"].x[:4]
    picture = draw_noising(model, data, noising)
    tile = image_grid(x[:1], levels=17).crop((0, 0, 66, 66))
    assert picture.crop((0, 20, 66, 86)).tobytes() == tile.tobytes()
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
    assert draw_trajectory(model, data, seed=0).size == (picture.width, 2 * (picture.height - 20) - 2 + 20)


@pytest.mark.slow
def test_draw_noising_accepts_points_of_the_plane():
    config = composed("experiment=toy", "model.sampling.steps=2", "data.sizes.test=20")
    data, model = instantiate(config.data), instantiate(config.model)
    noising = noised_examples(model, data, seed=0)
    assert draw_noising(model, data, noising).height > COLUMNS * 400
