"""Callbacks: their measurements are exact and do not affect training."""

from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from support.catalogue import composed, options
from support.tasks import parts, trainer_for, weights
from vdm.batch import Batch
from vdm.errors import InvalidInput
from vdm.runs.tables import read_curves, read_profiles, read_schedules
from vdm.training.build import build
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
    """Weights after 50 steps and two validations without callbacks."""
    data, task = parts(*MODEL)
    trainer_for(tmp_path_factory.mktemp("unwatched"), steps=50, val_check_interval=20).fit(task, datamodule=data)
    return weights(task)


@pytest.mark.slow
@pytest.mark.parametrize("option", options("callbacks"))
def test_callbacks_leave_the_weights_unchanged(option, unwatched, tmp_path):
    """All callbacks at their most frequent, an image logger, and another global seed."""
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


def test_profile_table_holds_the_training_draws(tmp_path):
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


def test_noise_scale_is_unbiased_in_signal_and_noise():
    """g = G + ξ, ξ ~ N(0, σ² I/B) in d dimensions: ‖G‖² and d σ²/B, within 4 exact standard errors of n pairs."""
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


def test_gradient_norm_is_logged_before_clipping(tmp_path):
    """Compare with torch's own norm at every second step."""
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


def test_gradient_noise_restores_half_a_pair():
    """The first gradient of a pair is part of the state until the second arrives."""
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


def test_throughput_excludes_validation(monkeypatch):
    """Steps of 2 s, each after waiting 1 s for data, and a validation of 1000 s."""
    now, logged = [0.0], []
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(throughput, "log_metrics", lambda trainer, metrics: logged.append(metrics))
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
    first, second = logged  # the clock starts at a batch, so both leave out the wait before their first batch
    assert first["throughput/steps_per_second"] == pytest.approx(2 / 5)
    assert first["throughput/examples_per_second"] == pytest.approx(2 * 5 * 3 / 5)
    assert second == first


def test_throughput_counts_flops_and_measures_a_peak():
    class Product(torch.nn.Module):
        def loss(self, batch, draws):
            return batch.x @ torch.ones(7, 11)

    task = SimpleNamespace(evaluated=Product())
    assert forward_flops(task, Batch(torch.ones(5, 7), torch.arange(5))) == 2 * 5 * 7 * 11
    for dtype in (torch.float32, torch.bfloat16):
        assert measured_peak(torch.device("cpu"), dtype, min_seconds=0.0) > 1e6


def test_throughput_precision_is_that_of_the_networks():
    """The networks' low precision if set, else the Trainer's."""
    _, task = build(composed())
    assert precision(task) == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert precision(task) == torch.bfloat16
    task.model.denoiser.network.low_precision = torch.float16
    assert precision(task) == torch.float16


def test_log_image_draws_only_for_image_loggers(tmp_path):
    drawn = []

    def draw():
        drawn.append(1)
        return Image.new("L", (6, 4), 100)

    csv, board = (
        CsvLogger(tmp_path / "m.csv"),
        TensorBoardLogger(str(tmp_path / "board")),
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
