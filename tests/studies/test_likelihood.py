"""The likelihood page: orderings that hold on an ideal model, and planted errors that violate them."""

import json
import math

import numpy as np
import pytest
import torch

from support.commands import invoke
from support.exports import exported
from support.oracles import gaussian_denoiser, training_set_denoiser
from vdm.batch import Batch
from vdm.cli import report
from vdm.elbo import ContinuousTime
from vdm.errors import InvalidInput
from vdm.evaluation import UniformDequantisation, importance
from vdm.evaluation.orderings import always_at_most, at_most, categorical_reconstruction, equal, not_below, violations
from vdm.laws import laws_off
from vdm.likelihoods import CategoricalLikelihood
from vdm.models import VDM
from vdm.schedules import LinearSchedule
from vdm.studies.likelihood import LikelihoodStudy, Settings
from vdm.times import StratifiedTimes

LEVELS = 8
POINTS = torch.tensor([[0, 3], [7, 1], [4, 4], [2, 6]])
SMALL = Settings(
    timesteps=[5, 40],
    repeats=32,
    trajectories=[1, 8],
    trajectory_timesteps=12,
    flow_samples=[1, 4],
    divergence="exact",
    tolerance=1e-3,
)
ENTROPY = math.log2(len(POINTS)) / 2
"""−log p in bits/dim of each of four equally probable examples of two dimensions."""


def vdm(denoiser, likelihood, gamma_min=-6.0):
    return VDM(LinearSchedule(gamma_min, 5.0), denoiser, likelihood, ContinuousTime(), StratifiedTimes())


def ideal():
    centres = 2 * (POINTS.double() + 0.5) / LEVELS - 1
    return vdm(training_set_denoiser(centres), CategoricalLikelihood(LEVELS))


def measure(model=None, x=None, settings=SMALL, entropy=ENTROPY):
    x = POINTS.repeat(4, 1) if x is None else x
    study = LikelihoodStudy(model or ideal(), Batch(x, torch.arange(len(x))), settings)
    return study.run(lambda done: None, entropy)


def test_orderings_hold_for_an_ideal_model():
    found = measure()
    assert violations(found.checks) == []
    assert {check.verdict for check in found.checks} <= {"holds", "open"}
    assert {name.partition(",")[0] for name in found.values} == {"bound", "importance-weighted", "flow"}


def test_page_catches_a_forgotten_log_K(monkeypatch):  # noqa: N802
    monkeypatch.setattr(importance, "log_mean_exp", lambda log_w: torch.logsumexp(log_w, -1))
    broken = " ".join(violations(measure().checks))
    assert "best of K = 8 trajectories ≤ mean" in broken
    assert "flow, uniform: best of K = 4 ≤ mean" in broken


class TwiceDivided(CategoricalLikelihood):
    """x_1 divided by a straight path's α = 1/(1 + σ/α) a second time, as a published code does."""

    def log_prob(self, x, x_1, gamma_1, denoise):
        return super().log_prob(x, x_1 * (1 + (gamma_1 / 2).exp()).view(-1, 1), gamma_1, denoise)


@pytest.mark.parametrize("likelihood", [CategoricalLikelihood(256), TwiceDivided(256)], ids=["right", "twice"])
def test_page_catches_a_reconstruction_divided_twice(likelihood):
    """At γ_min = −13.3 and 256 levels the error is 0.018 bits/dim, and the check finds it without a network."""
    x = torch.randint(256, (12, 24), generator=torch.Generator().manual_seed(0))
    settings = SMALL._replace(timesteps=[5], trajectories=[1], trajectory_timesteps=4, flow_samples=[1], tolerance=0.5)
    settings = settings._replace(divergence="hutchinson")
    with laws_off():  # which would refuse it
        found = measure(vdm(gaussian_denoiser(0.0, 1 / 3), likelihood, -13.3), x, settings, None)
    (check,) = [check for check in found.checks if check.claim.startswith("reconstruction")]
    assert check.violated == isinstance(likelihood, TwiceDivided)
    if check.violated:
        assert check.excess == pytest.approx(0.018, abs=0.004)


def test_page_catches_a_forgotten_offset(monkeypatch):
    """Uniform dequantisation without D log(2√ᾱ/K)."""
    original = UniformDequantisation.__call__

    def forgotten(self, *arguments):
        x_1, log_q = original(self, *arguments)
        return x_1, torch.zeros_like(log_q)

    monkeypatch.setattr(UniformDequantisation, "__call__", forgotten)
    broken = violations(measure().checks)
    assert any("entropy of uniform noise" in sentence for sentence in broken)
    assert any("flow, uniform, K = 1 ≥ −log p" in sentence for sentence in broken)


def test_quadrature_is_the_likelihoods_mean():
    levels, gamma, draws = 16, -4.0, 200_000
    x = torch.arange(levels).repeat_interleave(draws // levels)[:, None]
    likelihood, eps = CategoricalLikelihood(levels), torch.randn(draws, 1, generator=torch.Generator().manual_seed(1))
    level = torch.full((draws,), gamma)
    x_1 = torch.sigmoid(-level)[:, None].sqrt() * likelihood.encode(x) + torch.sigmoid(level)[:, None].sqrt() * eps
    costs = -likelihood.log_prob(x, x_1, level, None)
    assert costs.mean().item() == pytest.approx(
        categorical_reconstruction(levels, gamma).mean(), abs=5 * costs.std().item() / draws**0.5
    )


def test_checks_tell_chance_from_violation():
    values = np.random.default_rng(0).standard_normal((50, 10))
    assert at_most("", values, values).verdict == "holds"
    assert at_most("", values + 1, values + np.random.default_rng(1).standard_normal((50, 10))).verdict == "VIOLATED"
    assert equal("", values, values + 0.01).verdict == "holds"
    assert equal("", values, values + 5).verdict == "VIOLATED"
    assert always_at_most("", values + 1e-3, values).verdict == "VIOLATED"
    assert not_below("", values, 10).verdict == "VIOLATED"
    assert not_below("", values[:, :1], 10).verdict == "open"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timesteps": []}, "at least one"),
        ({"divergence": "hutchinson"}, "need divergence=exact"),
        ({"divergence": "none"}, "divergence=none is unknown"),
    ],
)
def test_study_refuses(change, message):
    with pytest.raises(InvalidInput, match=message):
        measure(settings=SMALL._replace(**change))


FEW = (
    "examples=3",
    "timesteps=[3]",
    "repeats=4",
    "trajectories=[1,2]",
    "trajectory_timesteps=3",
    "tolerance=0.1",
    "accelerator=cpu",
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An untrained model of the digits."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    folder.mkdir()
    return exported(folder, ("model.denoiser.network.channels=8", "model.denoiser.network.blocks=1"))[0]


def test_page_shows_estimates_orderings_and_codelength(checkpoint, tmp_path, capsys):
    account = {"bits_per_dim": {"net": {"value": 3.25}, "file": {"value": 3.5}, "png": {"value": 9.0}}, "images": 7}
    (checkpoint.parents[1] / "compress.json").write_text(json.dumps(account))
    assert invoke(report, "likelihood", f"ckpt={checkpoint}", *FEW, f"hydra.run.dir={tmp_path}/out") == 0
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    names = [name.partition(",")[0] for name in metrics["likelihood"]]
    assert sorted(set(names)) == ["bound", "flow", "importance-weighted"]
    assert [check["verdict"] for check in metrics["checks"]].count("VIOLATED") == len(metrics["warnings"])
    assert metrics["codelength"] == {"codelength, net, 7 images": 3.25, "codelength, whole file, 7 images": 3.5}
    page = (tmp_path / "out/report.html").read_text()
    assert "Orderings" in page
    assert "codelength, net, 7 images" in page
    assert "orderings that must hold" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("flow_samples=[1,4]", "need divergence=exact"),
        ("trajectories=[]", "at least one"),
        ("repeats=1", "repeats must be at least 2"),
        ("examples=0", "examples must be at least 1"),
        ("flow_repeat=3", "flow_repeat"),
    ],
)
def test_page_refuses(checkpoint, tmp_path, capsys, word, message):
    assert invoke(report, "likelihood", f"ckpt={checkpoint}", *FEW, word, f"hydra.run.dir={tmp_path}/out") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert message in line
