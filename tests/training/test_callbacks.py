"""What watches a run: exact where it measures, and without a trace in what it watches."""

import math
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn.functional import softplus

from support.catalogue import composed, options, part
from support.oracles import GaussianData
from support.tasks import parts, trainer_for, weights
from vdm.batch import Batch
from vdm.cli.build import build
from vdm.draws import Draws
from vdm.elbo import ContinuousTime, DiscreteTime
from vdm.errors import InvalidInput
from vdm.evaluation.samples.images import COLUMNS, draw_noising, draw_trajectory, images_over_time, noised_examples
from vdm.gamma_profile import GammaProfile, one_t_variance, per_gamma
from vdm.likelihoods import GaussianLikelihood
from vdm.models import VDM
from vdm.plots.images import image_grid, with_captions
from vdm.runs.folder import RunIdentity
from vdm.runs.tables import read_curves, read_profiles, read_schedules
from vdm.schedules import CosineSchedule, LinearSchedule
from vdm.terms import bits_per_dim
from vdm.times import LossMomentTimes, UniformTimes
from vdm.training.callbacks import throughput
from vdm.training.callbacks.bound_terms import BoundTerms
from vdm.training.callbacks.gradient_noise import GradientNoise, NoiseScale
from vdm.training.callbacks.profile import ProfileTable
from vdm.training.callbacks.schedule import ScheduleTable
from vdm.training.callbacks.throughput import Throughput, forward_flops, measured_peak, precision
from vdm.training.loggers.base import log_image
from vdm.training.loggers.csv import CsvLogger
from vdm.training.loggers.tensorboard import TensorBoardLogger

OFTEN = (
    "callbacks.sample_grid.every=1",
    "callbacks.sample_grid.n=4",
    "callbacks.bound_terms.every=1",
    "callbacks.gradient_noise.every=2",
    "callbacks.throughput.every=1",
    "callbacks.throughput.utilisation=true",
    "callbacks.last.every=10",
    "callbacks.score_samples.every=1",
    "fid=random",
    "fid.n=8",
    "fid.batch_size=4",
)
MODEL = ("model.sampling.steps=2", "schedule=adaptive", "validation.repeats=2")


@pytest.fixture(scope="module")
def unwatched(tmp_path_factory):
    """Weights after 50 steps and two validations that nobody looks at."""
    data, task = parts(*MODEL)
    trainer_for(tmp_path_factory.mktemp("unwatched"), steps=50, val_check_interval=20).fit(task, datamodule=data)
    return weights(task)


@pytest.mark.slow
@pytest.mark.parametrize("option", options("callbacks"))
def test_watching_changes_nothing(option, unwatched, tmp_path):
    """Every callback of the configs at its busiest, a logger that takes pictures, and dice thrown on the side."""
    config = composed(f"callbacks={option}", *OFTEN, *MODEL)
    config.output_dir = str(tmp_path)
    data, task = parts(*MODEL)
    torch.manual_seed(123)
    logger = pl.loggers.TensorBoardLogger(tmp_path, name="", version="")
    callbacks = instantiate(config.callbacks).values()
    settings = {"steps": 50, "val_check_interval": 20, "logger": logger, "enable_checkpointing": True}
    trainer_for(tmp_path, *callbacks, **settings).fit(task, datamodule=data)
    watched = weights(task)
    assert watched.keys() == unwatched.keys()
    assert all(torch.equal(watched[name], unwatched[name]) for name in watched)


def test_bins_give_back_mean_and_variance():
    """Whatever falls where: the law of total variance, and values beyond the ends."""
    stream = torch.Generator().manual_seed(0)
    gamma, value = 20 * torch.rand(500, generator=stream) - 12, torch.randn(500, generator=stream).double() ** 2
    profile = GammaProfile.empty(torch.tensor([-8.0, 5.0]), bins=7)
    for rows in torch.arange(500).split(64):
        profile.add(gamma[rows], value[rows])
    found = profile.bins()
    assert [each.low for each in found] == pytest.approx([-8 + 13 / 7 * k for k in range(7)])
    assert sum(each.draws for each in found) == 500
    assert sum(y * (each.high - each.low) for y, each in zip(per_gamma(found), found, strict=True)) == pytest.approx(
        value.mean().item()
    )
    assert one_t_variance(found) == pytest.approx(value.var(unbiased=False).item())
    third = value[(gamma >= found[2].low) & (gamma < found[2].high)]
    assert (found[2].draws, found[2].mean) == (len(third), pytest.approx(third.mean().item()))
    assert found[2].variance == pytest.approx(third.var(unbiased=False).item())


@pytest.mark.parametrize("times", [UniformTimes(), LossMomentTimes(bins=10)], ids=["uniform", "importance"])
@pytest.mark.parametrize("schedule", [LinearSchedule(-6.0, 5.0), CosineSchedule(-6.0, 5.0)], ids=["linear", "cosine"])
@pytest.mark.parametrize("time", [ContinuousTime(), DiscreteTime(5001)], ids=str)
def test_bound_per_gamma_is_the_closed_form_whatever_the_schedule(time, schedule, times):
    """N(0, s² I) with its ideal denoiser: ½ E‖ε − ε̂‖² = D/2 · sigmoid(log s² − γ), within 4 standard errors a bin."""
    data, n = GaussianData.isotropic(0.0, 0.25, (3,)), 40_000
    model = VDM(schedule, data.denoiser, GaussianLikelihood(), time, times)
    for seed in (2, 1):  # the first one tells the times about the loss
        loss = model.loss(Batch(data.sample(n), torch.arange(n)), Draws(seed))
    profile = GammaProfile.empty(torch.tensor([-6.0, 5.0]), bins=11)
    profile.add(loss.gamma_t, bits_per_dim(loss.bound.denoising_matching, 3))
    found = profile.bins()
    step = schedule.rate(torch.linspace(0, 1, 1001, dtype=torch.float64)).max().item() / 5000
    slack = 1.5 * step if isinstance(time, DiscreteTime) else 0.0  # expm1(Δγ)/Δγ, and a step across a bin's edge
    for y, each in zip(per_gamma(found), found, strict=True):
        low, high = (softplus(torch.tensor(math.log(0.25) - gamma)).item() for gamma in (each.low, each.high))
        share, width = each.draws / n, each.high - each.low
        variance = share * (each.variance + each.mean**2) - (share * each.mean) ** 2
        exact = (low - high) / (2 * math.log(2) * width)
        assert abs(y - exact) < 4 * math.sqrt(variance / n) / width + slack * exact


def test_profile_of_a_run_is_of_the_draws_it_trained_on(tmp_path):
    data, task = parts("schedule=learned_linear")
    csv = CsvLogger(tmp_path / "metrics.csv")
    watchers = (
        BoundTerms(every=3),
        ProfileTable(str(tmp_path / "profile.csv"), 5),
        ScheduleTable(str(tmp_path / "schedule.csv")),
    )
    trainer_for(tmp_path, *watchers, logger=csv).fit(task, datamodule=data)
    curves, profiles = read_curves(tmp_path / "metrics.csv"), read_profiles(tmp_path / "profile.csv")
    assert list(profiles) == curves["train/denoising_matching"][0] == [3, 6]
    for found, mean in zip(profiles.values(), curves["train/denoising_matching"][1], strict=True):
        assert sum(each.draws for each in found) == 3 * 32
        assert sum(each.draws * each.mean for each in found) / 96 == pytest.approx(mean)
    schedules = read_schedules(tmp_path / "schedule.csv")
    assert list(schedules) == [0, 3, 6]
    times, gammas = schedules[6]
    own = task.evaluated.schedule(torch.tensor(times, dtype=torch.float64))
    assert gammas == pytest.approx(own.tolist())
    assert curves["schedule/gamma_1.00"][1][-1] == pytest.approx(own[-1].item())


def test_noise_scale_is_unbiased_in_both_its_parts():
    """g = G + ξ, ξ ~ N(0, σ² I/B) in d dimensions: ‖G‖² and d σ²/B, with the exact errors of n pairs."""
    n, d, batch, sigma = 2000, 30, 8, 1.5
    stream = torch.Generator().manual_seed(0)
    mean = torch.randn(d, generator=stream, dtype=torch.float64) / 3
    scale, variance = NoiseScale(memory=1.0), sigma**2 / batch
    for _ in range(n):
        pair = mean + variance**0.5 * torch.randn(2, d, generator=stream, dtype=torch.float64)
        scale.add(*([g[:10].view(2, 5), g[10:]] for g in pair))
    signal = mean.square().sum().item()
    assert abs(scale.signal / n - signal) < 4 * ((2 * signal * variance + d * variance**2) / n) ** 0.5
    assert abs(scale.noise / n - d * variance) < 4 * (2 * d * variance**2 / n) ** 0.5
    assert scale.examples(batch) == pytest.approx(d * sigma**2 / signal, rel=0.1)
    assert NoiseScale(0.5, signal=-1.0, noise=1.0).examples(batch) is None


def test_gradient_norm_is_that_before_clipping(tmp_path):
    """Logged with every second step, beside a norm taken by torch itself."""
    data, task = parts()
    norms = []

    class Watch(pl.Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            norms.append(
                torch.nn.utils.get_total_norm([p.grad for p in pl_module.parameters() if p.grad is not None]).item()
            )

    csv = CsvLogger(tmp_path / "metrics.csv")
    trainer_for(tmp_path, GradientNoise(every=2), Watch(), logger=csv, gradient_clip_val=1e-3).fit(task, datamodule=data)
    steps, values = read_curves(tmp_path / "metrics.csv")["train/gradient_norm"]
    assert steps == [2, 4, 6]
    assert values == pytest.approx(norms[1::2], rel=1e-5)
    with pytest.raises(InvalidInput, match="every must be at least 2"):
        GradientNoise(every=1)


def test_a_pair_of_gradients_survives_a_stop_between_them():
    """As a checkpoint has it, and only then."""
    watcher, twin = GradientNoise(every=10), GradientNoise(every=10)
    layer = torch.nn.Linear(2, 1)
    module, made = SimpleNamespace(parameters=layer.parameters, device=torch.device("cpu")), []
    for step in (7, 8, 9):
        layer(torch.full((1, 2), float(step))).sum().backward()
        for each in (watcher, twin):
            each.on_before_optimizer_step(SimpleNamespace(global_step=step), module, None)
        made.append(watcher.state_dict()["first"])
        twin.load_state_dict(watcher.state_dict())
    assert [part is None for part in made] == [True, False, True]
    assert twin.state_dict() == watcher.state_dict()
    assert watcher.state_dict()["noise"] != 0


def test_the_clock_stands_still_in_validation(monkeypatch):
    """Steps of 2 s, each after 1 s of waiting for data; a validation of 1000 s."""
    now, told = [0.0], []
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(throughput, "log_metrics", lambda trainer, metrics: told.append(metrics))
    watcher, batch = Throughput(every=2), Batch(torch.zeros(5, 1), torch.arange(5))
    trainer = SimpleNamespace(global_step=0, world_size=3)
    watcher.on_train_start(trainer, None)
    for step in range(1, 5):
        now[0] += 1
        watcher.on_train_batch_start(trainer, None, batch, 0)
        now[0] += 2
        trainer.global_step = step
        watcher.on_train_batch_end(trainer, None, None, batch, 0)
        if step == 2:
            watcher.on_validation_start(trainer, None)
            now[0] += 1000
    first, second = told  # neither the first nor the one after validation had to wait within the clock's run
    assert first["throughput/steps_per_second"] == pytest.approx(2 / 5)
    assert first["throughput/examples_per_second"] == pytest.approx(2 * 5 * 3 / 5)
    assert second == first


def test_flops_are_counted_and_the_peak_is_positive():
    class Product(torch.nn.Module):
        def loss(self, batch, draws):
            return batch.x @ torch.ones(7, 11)

    task = SimpleNamespace(evaluated=Product())
    assert forward_flops(task, Batch(torch.ones(5, 7), torch.arange(5))) == 2 * 5 * 7 * 11
    for dtype in (torch.float32, torch.bfloat16):
        assert measured_peak(torch.device("cpu"), dtype, min_seconds=0.0) > 1e6


def test_the_peak_is_that_of_the_precision_of_the_networks():
    """Their own, or else the Trainer's."""
    _, task = build(composed())
    assert precision(task) == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert precision(task) == torch.bfloat16
    task.model.denoiser.network.low_precision = torch.float16
    assert precision(task) == torch.float16


@pytest.mark.parametrize("option", options("likelihood"))
def test_the_nearest_value_of_encoded_data_is_the_data(option):
    likelihood = part("model.likelihood", f"likelihood={option}")
    x = torch.randn(4, 3) if "gaussian" in option and "discretised" not in option else torch.arange(17).repeat(2, 1)
    assert torch.equal(likelihood.nearest(likelihood.encode(x)), x)


def test_time_goes_from_left_to_right():
    """Rows of pictures: for each example x_t, below it x̂_0; captions above and nothing else moved."""
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


def test_noising_is_a_path_of_q_from_data_to_noise():
    """Figure 1.4: it begins with the data itself; what noise was added since the step before is standard normal."""
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
def test_points_of_the_plane_have_pictures_too():
    config = composed("experiment=toy", "model.sampling.steps=2", "data.sizes.test=20")
    data, model = instantiate(config.data), instantiate(config.model)
    noising = noised_examples(model, data, seed=0)
    assert draw_noising(model, data, noising).height > COLUMNS * 400


def test_pictures_go_to_tensorboard_and_are_not_drawn_without_need(tmp_path):
    drawn = []

    def draw():
        drawn.append(1)
        return Image.new("L", (6, 4), 100)

    csv, board = (
        CsvLogger(tmp_path / "m.csv"),
        TensorBoardLogger(str(tmp_path / "board"), RunIdentity(None, None, None, None)),
    )
    trainer = SimpleNamespace(is_global_zero=True, global_step=7, loggers=[csv])
    log_image(trainer, "pictures/a", draw)
    assert not drawn
    trainer.loggers = [csv, board]
    log_image(trainer, "pictures/a", draw)
    board.finalize("success")
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    (event,) = events.Images("pictures/a")
    assert (event.step, event.width, event.height) == (7, 6, 4)
