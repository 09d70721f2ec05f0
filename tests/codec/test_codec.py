"""Compression is without loss, and its length is the bound."""

import numpy as np
import pytest
import torch

import vdm
from support.catalogue import composed
from support.exports import MODELS, nudged
from support.pixels import pixel_images, pixel_model
from vdm.codec import EvenInGamma, EvenInTime, Images, LeastExcess, Settings, encode
from vdm.codec.blocks import batch_size
from vdm.codec.chain import one_thread
from vdm.codec.spacing import spaced_time
from vdm.codec.stack import Exhausted, Stack
from vdm.config.composed import to_plain
from vdm.data import Digits
from vdm.draws import Draws
from vdm.elbo import ContinuousTime, DiscreteTime
from vdm.errors import InvalidInput
from vdm.schedules import CosineSchedule
from vdm.training.build import build

GRIDS = {"least_excess": LeastExcess(), "gamma": EvenInGamma(), "time": EvenInTime()}


@pytest.fixture(scope="module")
def coded():
    """48 images of independent pixels with 60 latents, and what they cost."""
    images = pixel_images(48)
    return images, encode(pixel_model(ContinuousTime()), Images(images), Settings(timesteps=60, grid=EvenInGamma()))


OVERRIDES = {name: overrides for name, (_, overrides) in MODELS.items()} | {
    "top down": ("model=hvae_top_down", "latents.network.channels=8"),
    "discretised": (*MODELS["vdm"][1], "likelihood=discretised_gaussian"),
}


def small_model(name):
    _, task = build(to_plain(composed(*OVERRIDES[name])))
    torch.manual_seed(5)
    model = task.evaluated
    model.load_state_dict({key: nudged(value) for key, value in model.state_dict().items()})
    return model.eval()


@pytest.mark.parametrize("name", OVERRIDES)
def test_every_model_decodes_its_own_images(name):
    model, x = small_model(name), Digits([1, 8, 8]).load()["test"].x[:6]
    timesteps = {"timesteps": 3} if hasattr(model, "schedule") else {}
    content = vdm.compress(model, x, batch=3, **timesteps)
    decoded = vdm.decompress(model, content)
    assert decoded.dtype == x.dtype
    assert torch.equal(decoded, x)


def test_net_bits_are_the_bin_mass_log_ratio_path_by_path(coded):
    """(1.46) on the very latents, from exact Gaussians, against the coder's state."""
    spent = coded[1].spent
    assert np.abs(spent.net / spent.path - 1).max() < 1e-3


def test_mean_net_bits_are_the_bound_at_that_t(coded):
    images, encoded = coded
    model = pixel_model(DiscreteTime(60))
    bound = torch.stack([model.elbo_all_times(images.double(), Draws(seed)).bits_per_dim for seed in range(4)]).mean(0)
    difference = torch.from_numpy(encoded.spent.net) / 64 - bound
    assert abs(difference.mean()) < 3 * difference.std() / len(difference) ** 0.5


def test_file_is_net_and_initial_bits_and_its_parts(coded):
    """No accounting trick: the coder's words hold all net and initial bits, to a word."""
    images, encoded = coded
    words = 8 * len(encoded.content) - encoded.initial - encoded.spent.net.sum()
    overhead = words - 8 * len(images)
    assert 0 < overhead < 8 * 250


@pytest.mark.parametrize("threads", [1, 2])
def test_decoding_does_not_depend_on_threads(coded, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(vdm.decompress(pixel_model(ContinuousTime()), coded[1].content), coded[0])
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_coding_runs_on_one_thread():
    torch.set_num_threads(2)
    with one_thread():
        assert torch.get_num_threads() == 1
    torch.set_num_threads(1)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("block", [5, 100])
def test_blocks_and_grids_decode(grid, block):
    model, images = pixel_model(DiscreteTime(6)), pixel_images(12, (1, 2, 2))
    encoded = encode(model, Images(images), Settings(grid=GRIDS[grid], block=block, batch=4))
    assert encoded.header.timesteps == 6
    assert torch.equal(vdm.decompress(model, encoded.content), images)


def test_full_batches_at_once_cost_more_initial_bits():
    model, images = pixel_model(DiscreteTime(6)), pixel_images(24, (1, 4, 4))
    paying, full = (encode(model, Images(images), Settings(batch=12, ramp=ramp)) for ramp in (None, 0))
    assert full.initial > 4 * paying.initial
    assert torch.equal(vdm.decompress(model, full.content), images)


def test_conditions_travel_with_the_images():
    overrides = (*MODELS["vdm"][1], "experiment=digits_labels")
    _, task = build(to_plain(composed(*overrides)))
    split = Digits([1, 8, 8], labels=True).load()["test"]
    content = vdm.compress(task.evaluated, split.x[:4], split.condition[:4], timesteps=3)
    assert torch.equal(vdm.decompress(task.evaluated, content), split.x[:4])


def test_another_model_is_refused():
    images, models = pixel_images(2), [small_model("vdm"), pixel_model(DiscreteTime(4))]
    content = vdm.compress(models[0], images, timesteps=3)
    with pytest.raises(InvalidInput, match="compressed by the model"):
        vdm.decompress(models[1], content)


def test_densities_are_refused():
    _, task = build(to_plain(composed("experiment=toy")))
    with pytest.raises(InvalidInput, match="density"):
        vdm.compress(task.evaluated, torch.randn(3, 2), timesteps=3)


def test_levels_without_probability_are_refused():
    with pytest.raises(InvalidInput, match="levels"):
        vdm.compress(pixel_model(DiscreteTime(4)), torch.full((2, 1, 4, 4), 17, dtype=torch.uint8))


def test_learned_latents_refuse_timesteps():
    with pytest.raises(InvalidInput, match="timesteps"):
        vdm.compress(small_model("mhvae"), pixel_images(2), timesteps=10)


@pytest.mark.parametrize("ramp", [0, 1, 5, 1000])
def test_batches_hold_every_image_once(ramp):
    done = 0
    while done < 97:
        size = batch_size(done, 97, 16, ramp)
        assert 1 <= size <= 16
        done += size
    assert done == 97


def test_least_excess_needs_fewer_latents_than_even_gamma():
    """The excess over T = ∞, in closed form for independent pixels up to the draws, at the same T."""
    model, images = pixel_model(ContinuousTime()), pixel_images(64)
    excess = {}
    for name, grid in GRIDS.items():
        time = spaced_time(model.schedule, 12, grid.density(model, images, None))
        bounds = [model.at(time).elbo_all_times(images.double(), Draws(seed)).bits_per_dim.mean() for seed in range(4)]
        excess[name] = torch.stack(bounds).mean()
    assert excess["least_excess"] < excess["gamma"] - 0.02


@pytest.mark.parametrize("density", ["0", "08f", "f000000f"])
def test_spaced_times_follow_their_density(density):
    """The share of latents in each part of γ's range is that of its density; the ends stay, for any schedule."""
    schedule = CosineSchedule(-8.0, 5.0)
    time = spaced_time(schedule, 2001, density)
    gamma = torch.stack(time.gammas(schedule, torch.zeros(1, 1))).flatten()
    assert gamma[0].item() == pytest.approx(-8)
    assert gamma[-1].item() == pytest.approx(5)
    counts = torch.histc(gamma, len(density), -8, 5)
    expected = torch.tensor([2 ** (int(digit, 16) / 2) for digit in density], dtype=torch.float64)
    assert torch.allclose(counts / 2001, expected / expected.sum(), atol=2e-3)


def test_whitening_undoes_itself():
    stack = Stack(None, "a")
    stack.supply(20)
    before = stack.words()
    stack.whiten(20, "x")
    assert (stack.words() != before).sum() == 20
    stack.whiten(20, "x")
    assert stack.is_initial(21)
    with pytest.raises(Exhausted):
        stack.whiten(21, "x")
