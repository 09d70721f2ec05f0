"""Every configured estimator on one small model."""

import math

import pytest
import torch
from hydra.utils import instantiate

from support.catalogue import composed, concrete, options
from vdm.batch import Batch
from vdm.denoiser import Denoiser
from vdm.elbo import ContinuousTime, DiscreteTime
from vdm.errors import InvalidInput
from vdm.evaluation import BoundAt, BoundEvaluation, Estimator
from vdm.evaluation.summary import summarise
from vdm.likelihoods import CategoricalLikelihood
from vdm.models import MHVAE, VDM
from vdm.networks import MLP
from vdm.parameterisations import PreconditionedParameterisation
from vdm.schedules import LinearSchedule

SMALL = {
    "timesteps": ["timesteps=[5,20]"],
    "continuous": ["continuous=true"],
    "importance": ["importance=3", "estimators.importance.timesteps=10"],
    "flow": ["flow=true", "estimators.flow.tolerance=1e-3"],
    "target_se": ["target_se=0.05"],
}


def model(time=None):
    network = MLP((2,), hidden=16, blocks=1, gamma_min=-8.0, gamma_max=5.0)
    denoiser = Denoiser(network, PreconditionedParameterisation(0.5))
    return VDM(LinearSchedule(-8.0, 5.0), denoiser, CategoricalLikelihood(5), time or ContinuousTime()).requires_grad_(False)


def data(n=12):
    return Batch(torch.arange(2 * n).view(n, 2) % 5, torch.arange(n))


def build(name, *overrides):
    config = composed("ckpt=unused", *SMALL[name], *overrides, config="evaluate")
    return instantiate(config.estimators[name])


def test_every_estimator_has_a_yaml():
    built = {type(build(name)) for name in options("estimator")}
    assert built == concrete(Estimator)
    assert set(options("estimator")) == set(SMALL)


@pytest.mark.parametrize("name", options("estimator"))
class TestEveryEstimator:
    def test_results_are_finite_and_complete(self, name):
        progress = []
        results = build(name)(model(), data(), progress.append)
        assert progress[-1] == pytest.approx(1.0)
        assert progress == sorted(progress)
        assert len({result.name for result in results}) == len(results)
        for result in results:
            estimate = result.terms["bits_per_dim"]
            assert all(map(math.isfinite, estimate))
            assert estimate.mc_se > 0
            assert estimate.data_se > 0
            assert "seed" in result.facts
            assert result.calls > 0

    def test_same_seed_gives_same_terms(self, name):
        first, second = (build(name)(model_with_seed(3), data(), lambda done: None)[0].terms for _ in range(2))
        assert first == second

    def test_estimator_is_off_by_default(self, name):
        assert not composed("ckpt=unused", config="evaluate")[name]

    def test_examples_limits_the_data(self, name):
        results = build(name, f"estimators.{name}.examples=4")(model(), data(), lambda done: None)
        assert all(result.examples == 4 for result in results)

    def test_autocast_is_refused(self, name):
        with torch.autocast("cpu", torch.bfloat16), pytest.raises(InvalidInput, match="not estimated under autocast"):
            build(name)(model(), data(), lambda done: None)

    def test_estimate_agrees_with_the_bound(self, name):
        """Within half a bit, and errors, of the bound at the model's own time."""
        estimate = build(name)(model_with_seed(3), data(), lambda done: None)[-1].terms["bits_per_dim"]
        values = BoundEvaluation(64)(model_with_seed(3), data())[0]
        assert abs(estimate.value - values.mean()) < 0.5 + 4 * estimate.mc_se


def model_with_seed(seed):
    torch.manual_seed(seed)
    return model()


def test_bound_at_own_time_equals_bound_evaluation():
    own = BoundEvaluation(4, seed=9)(model(DiscreteTime(30)), data())[0]
    result = BoundAt([DiscreteTime(30)], 4, seed=9)(model(), data(), lambda done: None)[0]
    assert result.terms["bits_per_dim"].value == pytest.approx(own.mean().item(), abs=1e-9)
    assert result.name == "bound_T30"


@pytest.mark.parametrize("name", ["timesteps", "continuous", "flow", "target_se"])
def test_model_without_diffusion_is_refused(name):
    chain = MHVAE.__new__(MHVAE)
    with pytest.raises(InvalidInput, match="needs a diffusion model"):
        build(name)(chain, data(), lambda done: None)


def test_error_bars_match_known_noise():
    """Both give σ/√(nR) for independent noise; only whole replicates handle noise shared by all examples."""
    torch.manual_seed(0)
    noise = torch.randn(2000, 50, dtype=torch.float64)
    pooled, whole = (summarise(noise, independent) for independent in (True, False))
    assert pooled.mc_se == pytest.approx(1 / 100_000**0.5, rel=0.02)
    assert pooled.df == pytest.approx(2000 * 49, rel=0.05)
    assert whole.mc_se == pytest.approx(1 / 100_000**0.5, rel=4 / (2 * 49) ** 0.5)
    assert whole.df == 49
    shared = torch.randn(1, 50, dtype=torch.float64).expand(2000, 50)
    assert summarise(shared, independent=False).mc_se == pytest.approx(1 / 50**0.5, rel=4 / (2 * 49) ** 0.5)
