"""Numbers out of range are refused by the part's constructor, in one line with the part's place."""

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.optim import SGD

from support.catalogue import composed
from support.tasks import parts, trainer_for
from vdm.cli.machine import device_of
from vdm.config.composed import instantiate_own
from vdm.errors import InvalidInput
from vdm.evaluation import BoundEvaluation
from vdm.networks import MLP, FusionConv, FusionMLP, UNet, VDMUNet
from vdm.training.build import build
from vdm.training.learning_rate import warmup_constant, warmup_cosine

CALLBACKS = ("bound_terms", "gradient_noise", "throughput", "sample_grid", "score_samples", "last")
ESTIMATORS = {
    "timesteps": ["timesteps=[9]"],
    "continuous": [],
    "importance": ["importance=2"],
    "flow": [],
    "target_se": ["target_se=0.1"],
}
PARTS = [
    *(("train", f"callbacks.{name}", f"every={every}", "every") for name in CALLBACKS for every in (0, -1)),
    ("train", "callbacks.sample_grid", "n=0", "n must be at least 1"),
    ("train", "callbacks.profile", "bins=0", "at least 1 bin"),
    ("train", "callbacks.cpu_time", "seconds=0", "must be positive"),
    ("train", "data", "eval_batch_size=0", "eval_batch_size must be at least 1"),
    ("train", "data", "eval_batch_size=100000000000000000000", "eval_batch_size must be at most 10,000,000"),
    ("train", "validation", "repeats=1", "at least 2"),
    ("train", "test", "repeats=1000000000000", "at most 10,000,000"),
    ("train", "fid", "steps=0", "at least 1"),
    ("train", "fid", "n=1", "at least 2"),
    *(("evaluate", f"estimators.{name}", f"rows={rows}", "rows must be") for name in ESTIMATORS for rows in (0, -1)),
    *(("evaluate", f"estimators.{name}", f"examples={n}", "examples must be") for name in ESTIMATORS for n in (0, -5)),
    ("evaluate", "estimators.timesteps", "timesteps=[1000000000000000000000]", "timesteps must be at most 10,000,000"),
    ("evaluate", "estimators.timesteps", "repeats=1000000000000", "repeats must be at most 10,000,000"),
    ("evaluate", "estimators.importance", "timesteps=1", "at least 2"),
    ("evaluate", "estimators.timesteps", "timesteps=[]", "timesteps is empty"),
    ("evaluate", "estimators.continuous", "times=[]", "timesteps is empty"),
    ("evaluate", "estimators.importance", "trajectories=0", "at least 1"),
    ("evaluate", "estimators.target_se", "target_se=0", "must be positive"),
    *(("evaluate", "estimators.target_se", f"margin={margin}", "at least 1") for margin in (0, ".nan", ".inf")),
    ("evaluate", "estimators.target_se", "target_se=.inf", "finite"),
    ("evaluate", "relatives.kid", "subsets=0", "at least 1"),
    ("evaluate", "relatives.kid", "subset_size=0", "at least 2"),
    ("evaluate", "relatives.inception_score", "splits=0", "at least 1"),
    ("evaluate", "relatives.precision_recall", "neighbours=0", "at least 1"),
]
BASE = {"train": ["fid=random"], "evaluate": ["ckpt=x", *(word for words in ESTIMATORS.values() for word in words)]}


@pytest.fixture(scope="module")
def configs():
    return {name: composed(*overrides, config=name) for name, overrides in BASE.items()}


@pytest.mark.parametrize(("config", "place", "setting", "message"), PARTS)
def test_numbers_out_of_range_are_refused_with_the_place(configs, config, place, setting, message):
    node = OmegaConf.select(configs[config], place)
    instantiate_own(node, place)
    changed = OmegaConf.merge(OmegaConf.to_container(node, resolve=True), OmegaConf.from_dotlist([setting]))
    with pytest.raises(InvalidInput, match=message) as caught:
        instantiate_own(changed, place)
    assert str(caught.value).startswith(place)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rows", [0, -1])
def test_evaluation_rows_below_1_are_refused(rows):
    with pytest.raises(InvalidInput, match="rows must be at least 1"):
        BoundEvaluation(2, rows=rows)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_beyond_32_bits_are_refused(seed):
    with pytest.raises(InvalidInput, match="seed must be between 0 and 4294967295"):
        build(composed(f"seed={seed}"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": -1, "max_epochs": -1}, "trainer.max_steps=-1 gives none"),
        ({"steps": 0}, "trainer.max_steps=0 gives none"),
        ({"val_check_interval": 0}, "trainer.val_check_interval must be at least 1"),
        ({"accumulate_grad_batches": 0}, "trainer.accumulate_grad_batches must be at least 1"),
        ({"accumulate_grad_batches": -2}, "trainer.accumulate_grad_batches must be at least 1"),
    ],
)
def test_trainers_without_a_number_of_steps_are_refused(tmp_path, settings, message):
    data, task = parts()
    with pytest.raises(InvalidInput, match=message):
        trainer_for(tmp_path, **settings).fit(task, datamodule=data)


def test_epochs_give_a_number_of_steps(tmp_path):
    data, task = parts("data.batch_size=450")
    trainer = trainer_for(tmp_path, steps=-1, max_epochs=1)
    trainer.fit(task, datamodule=data)
    assert trainer.global_step == 3


def rates(schedule, steps, **settings):
    """Return the learning rate at each step as a fraction of the peak."""
    optimizer = SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    follow, found = schedule(optimizer, steps, **settings), []
    for _ in range(steps + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        follow.step()
    return found


@pytest.mark.parametrize("schedule", [warmup_cosine, warmup_constant])
def test_learning_rates_lie_between_0_and_the_peak(schedule):
    for warmup in (0, 1, 3, 20):
        assert all(0 <= rate <= 1 for rate in rates(schedule, 9, warmup=warmup))
    assert rates(schedule, 9, warmup=0) == rates(schedule, 9, warmup=1)
    assert rates(schedule, 9, warmup=0)[0] == 1
    with pytest.raises(InvalidInput, match="warmup must be at least 0, got -5"):
        rates(schedule, 9, warmup=-5)


@pytest.mark.parametrize("floor", [-0.1, 1.5])
def test_learning_rate_floors_outside_0_to_1_are_refused(floor):
    with pytest.raises(InvalidInput, match="floor"):
        rates(warmup_cosine, 9, warmup=1, floor=floor)


@pytest.mark.parametrize(
    ("there", "accelerator", "device"),
    [
        (True, "auto", "cuda"),
        (True, "gpu", "cuda"),
        (True, "cuda", "cuda"),
        (True, "cpu", "cpu"),
        (False, "auto", "cpu"),
        (False, "cpu", "cpu"),
        (False, "gpu", None),
        (False, "cuda", None),
        (True, "foo", None),
        (False, "foo", None),
    ],
)
def test_accelerators_without_a_device_are_refused(monkeypatch, there, accelerator, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    if device is not None:
        assert device_of(accelerator) == torch.device(device)
    else:
        with pytest.raises(InvalidInput, match=f"accelerator={accelerator} is not available on this machine"):
            device_of(accelerator)


SIZES = {
    "MLP": (lambda **size: MLP((2,), **{"hidden": 8, "blocks": 1} | size, gamma_min=-8.0, gamma_max=5.0), "hidden"),
    "UNet": (lambda **size: UNet((1, 8, 8), **UNET | size, gamma_min=-8.0, gamma_max=5.0), "channels heads"),
    "VDMUNet": (lambda **size: VDMUNet((1, 8, 8), **VDM_UNET | size, gamma_min=-8.0, gamma_max=5.0), "channels"),
    "FusionMLP": (lambda **size: FusionMLP([(2,)], (2,), **size), "hidden heads"),
    "FusionConv": (lambda **size: FusionConv([(1, 4, 4)], (1, 4, 4), **size), "channels heads"),
}
UNET = {"channels": 8, "multipliers": [1, 2], "blocks": 1}
VDM_UNET = {"channels": 64, "blocks": 1}


@pytest.mark.parametrize(("make", "names"), SIZES.values(), ids=SIZES)
def test_networks_without_a_size_are_refused(make, names):
    for name in names.split():
        with pytest.raises(InvalidInput, match=f"{name} must be at least 1, got 0"):
            make(**{name: 0})
    with pytest.raises(InvalidInput, match="blocks must be at least 0, got -1"):
        make(blocks=-1)
