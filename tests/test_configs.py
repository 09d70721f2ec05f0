"""Every yaml of every group composes and instantiates; every concrete class has a yaml."""

import pytest
from omegaconf import OmegaConf

from catalogue import CONFIGS, composed, concrete, options, part
from vdm.bound import VariationalModel
from vdm.cli.build import build
from vdm.data import InMemoryData
from vdm.elbo import Time
from vdm.likelihoods import Likelihood
from vdm.models import MHVAE
from vdm.parameterisations import Parameterisation
from vdm.schedules import NoiseSchedule
from vdm.times import TimeSampler

KINDS = {
    "schedule": ("model.schedule", NoiseSchedule),
    "parameterisation": ("model.denoiser.parameterisation", Parameterisation),
    "likelihood": ("model.likelihood", Likelihood),
    "time": ("model.time", Time),
    "times": ("model.times", TimeSampler),
    "data": ("data", InMemoryData),
    "model": ("model", VariationalModel),
}
EVALUATION = {"estimator", "divergence", "dequantisation"}
"""Groups of vdm-evaluate; all others are vdm-train's. (MHVAE, so far, is built by VDM.as_mhvae() alone.)"""


def groups():
    return sorted(folder.name for folder in CONFIGS.iterdir() if folder.is_dir() and options(folder.name))


@pytest.mark.parametrize(("group", "option"), [(g, o) for g in groups() for o in options(g)])
def test_every_option_composes_and_resolves(group, option):
    config = (
        composed(f"{group}={option}", "ckpt=unused", config="evaluate")
        if group in EVALUATION
        else composed(f"{group}={option}")
    )
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize(("group", "option"), [(g, o) for g in KINDS for o in options(g)])
def test_every_option_instantiates_to_its_kind(group, option):
    path, kind = KINDS[group]
    assert isinstance(part(path, f"{group}={option}"), kind)


@pytest.mark.parametrize("group", KINDS)
def test_every_concrete_class_has_a_yaml(group):
    path, kind = KINDS[group]
    assert {type(part(path, f"{group}={option}")) for option in options(group)} == concrete(kind) - {MHVAE}


@pytest.mark.parametrize("option", options("experiment"))
def test_every_experiment_builds(option):
    data, task = build(composed(f"experiment={option}"))
    assert data.event_shape
    assert sum(p.numel() for p in task.model.parameters()) > 0


def test_groups_have_a_choice():
    """A group with one option is a constant in disguise."""
    single = {group for group in groups() if len(options(group)) < 2}
    assert single <= {"data", "model", "callbacks", "experiment"}


def test_a_schedule_is_refused_where_the_model_has_none():
    with pytest.raises(Exception, match="schedule"):
        composed("model=vdm", "schedules=cosine")
