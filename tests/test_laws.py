"""Parts of one's own are held to their laws: each kind of wrong part is refused with its class, place and both numbers."""

import math
from functools import partial

import pytest
import torch

from support.catalogue import options, part
from support.oracles import gaussian_denoiser
from vdm import laws
from vdm.batch import Batch
from vdm.divergence import HutchinsonDivergence
from vdm.elbo import ContinuousTime
from vdm.errors import InvalidInput
from vdm.evaluation import (
    BoundEvaluation,
    FlowLikelihood,
    StratifiedBound,
    TruncatedNormalDequantisation,
    UniformDequantisation,
)
from vdm.laws.likelihoods import check_dequantisation
from vdm.likelihoods import CategoricalLikelihood, GaussianLikelihood
from vdm.likelihoods.discretised import DiscretisedGaussianLikelihood, PosteriorVariance
from vdm.models import VDM
from vdm.objectives import MinSNRObjective, SigmoidObjective
from vdm.parameterisations import NoiseParameterisation, Prediction, VelocityParameterisation
from vdm.process import FORWARD, reparameterise
from vdm.samplers import AncestralSampler, DDIMSampler, Sampling, TimeSpacing
from vdm.schedules import CosineSchedule, LinearSchedule, RestrictedSchedule
from vdm.times import StratifiedTimes, TimeSampler, UniformTimes

ENDS = (-8.0, 5.0)


class HalfRate(RestrictedSchedule):
    def curve(self, tau):
        return tau.square()

    def curve_rate(self, tau):
        return tau  # half the derivative

    def inverse(self, gamma):
        return (gamma - gamma[0] + 1).sqrt()

    def forward(self, t):
        return self.curve(self._tau(t)) + self.gamma_min - 1


class RightRate(HalfRate):
    def curve_rate(self, tau):
        return 2 * tau


class SlightlyWrongRate(CosineSchedule):
    def rate(self, t):
        return 1.001 * super().rate(t)


class LocallyWrongRate(LinearSchedule):
    def rate(self, t):
        return super().rate(t) * torch.where((t > 0.40) & (t < 0.42), 2.0, 1.0)


class NotMonotone(LinearSchedule):
    def forward(self, t):
        return super().forward(t) + 3 * torch.sin(2 * math.pi * t)

    def rate(self, t):
        return super().rate(t) + 6 * math.pi * torch.cos(2 * math.pi * t)


class WrongEnd(LinearSchedule):
    def forward(self, t):
        return self.gamma_min + (self.gamma_max - 1 - self.gamma_min) * t

    def rate(self, t):
        return torch.full_like(t, self.gamma_max - 1 - self.gamma_min)


class SinglePrecision(CosineSchedule):
    """A right one, in float32 inside."""

    def forward(self, t):
        return super().forward(t.float()).to(t)


class NineTenths(CategoricalLikelihood):
    def log_prob(self, x, x_1, gamma_1, denoise):
        return super().log_prob(x, x_1, gamma_1, denoise) + math.log(0.9)


class OtherDraws(CategoricalLikelihood):
    def decode(self, x_1, gamma_1, denoise, draws):
        return (super().decode(x_1, gamma_1, denoise, draws) + 1).clamp(max=self.levels - 1)


class Upside(CategoricalLikelihood):
    def nearest(self, x_0):
        return self.levels - 1 - super().nearest(x_0)


class WideDensity(GaussianLikelihood):
    def log_prob(self, x, x_1, gamma_1, denoise):
        return super().log_prob(x, x_1, gamma_1, denoise) + 0.1


class ForImages(CategoricalLikelihood):
    """A right one, which takes images alone."""

    def log_prob(self, x, x_1, gamma_1, denoise):
        assert x.ndim == 4
        return super().log_prob(x, x_1, gamma_1, denoise)


class Louder(AncestralSampler):
    factor = 1.2

    def step(self, denoise, step):
        kernel = FORWARD.reverse(step.prediction.x_0, step.x_t, step.gamma_s, step.gamma_t)
        return kernel.mean + self.factor * (reparameterise(kernel, step.noise()) - kernel.mean)


class OwnNoise(AncestralSampler):
    """A right one, but for its random numbers."""

    def step(self, denoise, step):
        return super().step(denoise, step._replace(noise=lambda: torch.randn_like(step.x_t)))


class LouderOwnNoise(Louder):
    factor = 1.5

    def step(self, denoise, step):
        return super().step(denoise, step._replace(noise=lambda: torch.randn_like(step.x_t)))


class Shifted(DDIMSampler):
    def step(self, denoise, step):
        return super().step(denoise, step) + 0.01


class NeverAtTheEnds(TimeSampler):
    def draw(self, draws, like):
        u = draws.uniform("t", like)
        u = 0.1 + 0.8 * u
        return u, torch.ones_like(u)  # the density on (0.1, 0.9) is 1.25


class Unnormalised(TimeSampler):
    def draw(self, draws, like):
        u = draws.uniform("t", like)
        return u, torch.full_like(u, 0.9)


class WrongWeight(TimeSampler):
    def draw(self, draws, like):
        u = draws.uniform("t", like)
        return u.square(), torch.ones_like(u)


class SquareRoot(TimeSampler):
    """A right one."""

    def draw(self, draws, like):
        u = draws.uniform("t", like).sqrt() * (1 - 1e-9)
        return u, 2 * u


class NotIndependent(UniformTimes):
    def draw(self, draws, like):
        return StratifiedTimes().draw(draws, like)


class OtherEps(VelocityParameterisation):
    def predict(self, y, x_t, gamma):
        prediction = super().predict(y, x_t, gamma)
        return prediction._replace(eps=-prediction.eps)


class OtherTarget(NoiseParameterisation):
    def target(self, x_0, eps, gamma):
        return 2 * eps


class Negative(SigmoidObjective):
    def weight(self, gamma):
        return super().weight(gamma) - 0.5


class BatchMean(SigmoidObjective):
    def weight(self, gamma):
        return super().weight(gamma) / super().weight(gamma).mean()


class NoVariance(PosteriorVariance):
    def forward(self, gamma_1):
        return -super().forward(gamma_1)


class HalfTrace(HutchinsonDivergence):
    def probes(self, draws, like):
        return super().probes(draws, like) * 0.5**0.5


class HalfWeight(ContinuousTime):
    def gamma_and_weight(self, schedule, u):
        found = super().gamma_and_weight(schedule, u)
        return found._replace(weight=found.weight / 2)


class Backwards(TimeSpacing):
    def times(self, schedule, steps, device):
        return super().times(schedule, steps, device).flip(0)


WRONG = {
    "half the derivative": (HalfRate(*ENDS), r"rate\(0\.\d+\) = [\d.]+, but gamma changes there at"),
    "derivative off by a thousandth": (SlightlyWrongRate(*ENDS), "but gamma changes there at"),
    "derivative wrong in a fiftieth": (LocallyWrongRate(*ENDS), r"rate\(0\.4\d*\) = 26, but gamma changes there at 13"),
    "falling gamma": (NotMonotone(*ENDS), "gamma must increase, but from t = "),
    "another end": (WrongEnd(*ENDS), r"gamma\(1\) = 4, but gamma_max = 5"),
    "probabilities of 0.9": (NineTenths(17), r"add up to 0\.9, but must to 1"),
    "draws of another level": (OtherDraws(17), "of its draws is at most"),
    "levels upside down": (Upside(17), "level 0 is encoded to the place of level 16"),
    "a density of more than one": (WideDensity(), r"integrates to 1\.1051\d*, but must to 1"),
    "noise too loud": (Louder(), "have the variance"),
    "noise of its own too loud": (LouderOwnNoise(), "have the variance"),
    "samples beside the data": (Shifted(), "have the mean"),
    "a part that is never drawn": (NeverAtTheEnds(), r"in \[0, 0\.1\) = 0, but its length is 0\.1"),
    "a density of 0.9": (Unnormalised(), r"in \[0, 1\) = 1\.11\d*, but its length is 1"),
    "weights of another density": (WrongWeight(), r"in \[0, 0\.1\) = 0\.3\d*, but its length is 0\.1"),
    "t not independent": (NotIndependent(), "independent = True"),
    "eps of the other sign": (OtherEps(), r"its x_0 and eps make x_t = "),
    "target of another output": (OtherTarget(), "a perfect output gives"),
    "a negative weight": (Negative(), "a weight is at least 0"),
    "a weight of the batch": (BatchMean(), "in a batch"),
    "a negative variance": (NoVariance(0.5), "a variance is positive"),
    "half the trace": (HalfTrace(), r"is 0\.7\d*, but its trace 1\.5"),
    "half the weight": (HalfWeight(), "its weights have the mean"),
    "times upwards": (Backwards(), "must run from 1 to 0, got 0 and 1"),
}
RIGHT = [RightRate(*ENDS), SinglePrecision(*ENDS), SquareRoot(), OwnNoise(), ForImages(17)]


@pytest.mark.parametrize("name", WRONG)
def test_wrong_part_is_refused_with_class_place_and_numbers(name):
    wrong, numbers = WRONG[name]
    with pytest.raises(laws.BrokenLaw, match=numbers) as caught:
        laws.check_laws({"part": [wrong]}, "model")
    message = str(caught.value)
    assert message.startswith(f"model.part[0]: {type(wrong).__module__}.{type(wrong).__qualname__} breaks its law: ")
    assert "+laws=off" in message
    assert "\n" not in message
    with laws.laws_off():
        laws.check_laws(wrong)


@pytest.mark.parametrize("right", RIGHT, ids=lambda right: type(right).__name__)
def test_right_part_of_ones_own_is_taken(right):
    state = torch.get_rng_state()
    laws.check_laws(right)
    assert torch.equal(state, torch.get_rng_state())


GROUPS = {
    "schedule": "model.schedule",
    "likelihood": "model.likelihood",
    "parameterisation": "model.denoiser.parameterisation",
    "sampler": "model.sampling.sampler",
    "spacing": "model.sampling.spacing",
    "times": "model.times",
    "time": "model.time",
    "objective": "model.objective",
}


@pytest.mark.parametrize(("group", "option"), [(group, option) for group in GROUPS for option in options(group)])
def test_own_parts_obey_their_laws(group, option):
    own = part(GROUPS[group], f"{group}={option}")
    law = laws.law_of(own)
    with torch.no_grad():
        law(own)


def vdm(**parts):
    settings = {"schedule": LinearSchedule(*ENDS), "likelihood": GaussianLikelihood(), "time": ContinuousTime()}
    return VDM(**{**settings, "denoiser": gaussian_denoiser(0.0, 0.25), **parts})


@pytest.mark.parametrize(
    ("parts", "place"),
    [
        ({"schedule": HalfRate(*ENDS)}, "model.schedule"),
        ({"objective": MinSNRObjective(WrongEnd(*ENDS))}, "model.objective.reference"),
        ({"sampling": Sampling(Louder())}, "model.sampling.sampler"),
        (
            {"likelihood": DiscretisedGaussianLikelihood(17, NoVariance(0.5))},
            "model.likelihood.variance",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_part_in_any_place_is_refused(parts, place):
    model = vdm(**parts)
    with pytest.raises(InvalidInput, match=place.replace(".", r"\.")):
        laws.check_laws(model)


def test_every_evaluation_holds_a_model_to_its_laws():
    x = torch.zeros(4, 3, dtype=torch.float64)
    data = Batch(x, torch.arange(4))
    for estimate in (BoundEvaluation(2), partial(StratifiedBound(0.1), progress=lambda done: None)):
        model = vdm(schedule=HalfRate(*ENDS))
        with pytest.raises(laws.BrokenLaw, match="gamma changes"):
            estimate(model, data)
        with laws.laws_off():
            estimate(model, data)


def test_denoiser_whose_eps_is_inconsistent_is_refused():
    ideal = gaussian_denoiser(0.0, 0.25)

    def wrong(x_t, gamma_t):
        return Prediction(ideal(x_t, gamma_t).x_0, torch.zeros_like(x_t))

    data = Batch(torch.ones(4, 3, dtype=torch.float64), torch.arange(4))
    with pytest.raises(laws.BrokenLaw, match=r"model\.denoiser: .*wrong breaks its law"):
        BoundEvaluation(2)(vdm(denoiser=wrong), data)
    BoundEvaluation(2)(vdm(denoiser=ideal), data)


class OffCentre(UniformDequantisation):
    def __call__(self, likelihood, x, gamma_1, draws):
        x_1, log_q = super().__call__(likelihood, x, gamma_1, draws)
        return x_1, log_q + math.log(2)


class Spilling(UniformDequantisation):
    def __call__(self, likelihood, x, gamma_1, draws):
        x_1, log_q = super().__call__(likelihood, x, gamma_1, draws)
        return 1.2 * x_1, log_q


def test_dequantisation_is_held_to_its_density_and_its_bin():
    for right in (UniformDequantisation(), TruncatedNormalDequantisation()):
        check_dequantisation(right, of_levels=True)
    with pytest.raises(laws.BrokenLaw, match=r"has the mass 0\.2"):
        check_dequantisation(OffCentre(), of_levels=True)
    with pytest.raises(laws.BrokenLaw, match="but the bin reaches"):
        check_dequantisation(Spilling(), of_levels=True)
    flow = FlowLikelihood(HutchinsonDivergence(), OffCentre())
    with pytest.raises(laws.BrokenLaw, match=r"estimators\.flow\.dequantisation"):
        flow.check(vdm(likelihood=CategoricalLikelihood(17)))


def test_part_that_cannot_be_called_is_refused():
    class Broken(LinearSchedule):
        def rate(self, t):
            raise RuntimeError("no rate")

    with pytest.raises(InvalidInput, match=r"cannot be held to its law \(RuntimeError: no rate\)"):
        laws.check_laws(Broken(*ENDS), "model.schedule")


def test_setting_is_on_or_off():
    for value in (None, "on", "off", True, False):
        laws.laws_setting(value)
    with pytest.raises(InvalidInput, match="laws is on or off, got 'maybe'"):
        laws.laws_setting("maybe")
