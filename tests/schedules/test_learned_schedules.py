"""What trains a learned schedule, and what holds whatever its weights are."""

import copy

import pytest
import torch
from torch import nn

from support.catalogue import composed, options, part
from support.oracles import gaussian_denoiser
from vdm.batch import Batch
from vdm.denoiser import Denoiser
from vdm.draws import Draws
from vdm.elbo import ContinuousTime, DiscreteTime
from vdm.errors import InvalidInput
from vdm.gamma import sigma2, snr
from vdm.likelihoods import CategoricalLikelihood, GaussianLikelihood
from vdm.loss_history import LossHistory, LossObserver
from vdm.models import VDM
from vdm.networks import MLP
from vdm.objectives import SigmoidObjective
from vdm.parameterisations import PreconditionedParameterisation
from vdm.samplers import HeunSampler
from vdm.schedules import (
    AdaptiveSchedule,
    LearnedEnds,
    LinearSchedule,
    MonotoneSchedule,
    PerPixelSchedule,
    endpoint_gradients_only,
    path_variance_loss,
    time_of,
)
from vdm.times import LossMomentTimes, StratifiedTimes
from vdm.training.task import parameter_groups

ENDS = (-8.0, 5.0)
SHAPE = (3,)


def build(name):
    ends = (f"gamma_min={ENDS[0]}", f"gamma_max={ENDS[1]}")
    return part("model.schedule", f"schedule={name}", f"data.event_shape={list(SHAPE)}", *ends)


SCHEDULES = {name: build(name) for name in options("schedule")}
LEARNED = [name for name, schedule in SCHEDULES.items() if schedule.learned]
MOVING = [name for name, s in SCHEDULES.items() if s.learned or any(isinstance(m, LossObserver) for m in s.modules())]
PATHS = ["learned_linear", "learned_monotone", "monotone"]


def scrambled(name, scale=1.0, seed=0):
    """The schedule after its weights went astray."""
    schedule, stream = copy.deepcopy(SCHEDULES[name]), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in schedule.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=stream))
        for profile in schedule.modules():
            if isinstance(profile, LossHistory):
                place = torch.rand(5000, generator=stream)
                profile.update(place, (scale * torch.randn(5000, generator=stream)).clamp(-40, 40).exp())
    return schedule


def tiny_model(schedule, **settings):
    network = MLP(SHAPE, 16, 1, *ENDS)
    denoiser = Denoiser(network, PreconditionedParameterisation(0.75))
    settings = {"time": ContinuousTime(), "times": StratifiedTimes(), **settings}
    return VDM(schedule, denoiser, CategoricalLikelihood(17), **settings)


def levels(n=16, seed=0):
    return torch.randint(17, (n, *SHAPE), generator=torch.Generator().manual_seed(seed))


def assert_a_schedule(schedule):
    """Increasing, with pinned ends: in their boxes where they are learned, where they were otherwise."""
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)
    gamma = schedule(t).detach().reshape(len(t), -1)
    assert (gamma.diff(dim=0) > 0).all()
    assert (schedule.rate(t) > 0).all()
    assert torch.isfinite(schedule.rate(t)).all()
    if isinstance(schedule, LearnedEnds):
        assert -15 <= gamma[0].min() <= gamma[0].max() <= -3
        assert 3 <= gamma[-1].min() <= gamma[-1].max() <= 12
    else:
        assert torch.allclose(
            gamma[[0, -1]], torch.tensor(ENDS).double()[:, None].expand(2, gamma.shape[1]), rtol=0, atol=1e-9
        )


@pytest.mark.parametrize("name", options("schedule"))
def test_schedule_states_what_trains_it(name):
    schedule, t = SCHEDULES[name], torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert schedule.per_dimension == (schedule(t).ndim > 1)
    assert schedule.trainable == (name in MOVING)
    assert schedule.learned_ends == any(
        gradient.abs().max() > 0
        for end in schedule(t)[[0, -1]].flatten()
        if schedule.learned
        for gradient in torch.autograd.grad(end, list(schedule.parameters()), retain_graph=True, materialize_grads=True)
    )


@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("name", MOVING)
def test_ends_and_order_hold_for_any_weights(name, scale):
    for seed in range(5):
        assert_a_schedule(scrambled(name, scale, seed))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "time"), [*((name, ContinuousTime()) for name in MOVING), ("learned_monotone", DiscreteTime(20))]
)
def test_ends_and_order_hold_after_a_thousand_steps(name, time):
    torch.manual_seed(0)
    schedule = build(name)
    before = schedule(torch.linspace(0, 1, 11).double()).detach()
    model = tiny_model(schedule, time=time)
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=1e-2, weight_decay=0.1)
    for step in range(1000):
        optimizer.zero_grad()
        model.loss(Batch(levels(seed=step), torch.arange(16)), Draws(0, step)).value.mean().backward()
        optimizer.step()
    assert_a_schedule(schedule)
    assert not torch.allclose(schedule(torch.linspace(0, 1, 11).double()), before)


class TestVarianceMinimisation:
    """For a fixed profile h(γ): the loss at t is γ′(t) h(γ(t)), exact integrals by a midpoint rule."""

    t = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000

    def h(self, gamma):
        return torch.sigmoid(-gamma) * (1 + torch.sin(gamma).square())

    def gradients(self, value, schedule):
        return torch.autograd.grad(value, list(schedule.parameters()), allow_unused=True, materialize_grads=True)

    @pytest.mark.parametrize("name", PATHS)
    def test_gradient_is_that_of_the_second_moment(self, name):
        """d/dφ E loss² = E 2 · loss · ∂loss/∂φ, by autograd along the path at fixed t; and nothing for the ends."""
        schedule = scrambled(name, 0.3).double()
        loss = schedule.rate(self.t) * self.h(schedule(self.t))
        exact = self.gradients(loss.square().mean(), schedule)
        surrogate = path_variance_loss(schedule, self.t, loss)
        assert (surrogate == 0).all()
        found = self.gradients(surrogate.mean(), schedule)
        for (parameter, _), mine, theirs in zip(schedule.named_parameters(), found, exact, strict=True):
            if "moved" in parameter:
                assert mine.abs() < 1e-9 * loss.square().mean()
            else:
                assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max())

    @pytest.mark.parametrize("name", LEARNED)
    def test_endpoint_gradients_keep_the_values(self, name):
        schedule = scrambled(name).double()
        gamma, rate = endpoint_gradients_only(schedule, self.t[::100])
        assert torch.equal(gamma, schedule(self.t[::100]))
        assert torch.equal(rate, schedule.rate(self.t[::100]))

    @pytest.mark.parametrize("name", ["learned_linear", "learned_monotone", "monotone"])
    def test_bound_trains_the_ends_only(self, name):
        """d/dγ_1 ∫ h dγ = h(γ_1), d/dγ_0 = −h(γ_0), and no gradient for the path."""
        schedule = scrambled(name, 0.3).double()
        gamma, rate = endpoint_gradients_only(schedule, self.t)
        bound = (rate * self.h(gamma)).mean()
        low, high = schedule(torch.tensor([0.0, 1.0]).double()).detach()
        if name == "monotone":
            assert all((g.abs() < 1e-12).all() for g in self.gradients(bound, schedule))
            return
        for (parameter, _), gradient in zip(schedule.named_parameters(), self.gradients(bound, schedule), strict=True):
            expected = {"moved_min": -self.h(low), "moved_max": self.h(high)}.get(parameter)
            if expected is None:
                assert gradient.abs().max() < 1e-12
            else:
                assert abs(gradient - expected) < 1e-5

    def test_variance_loss_makes_the_loss_constant(self):
        """The least second moment is (∫ h dγ)², reached where γ′ h is level; a straight line has half as much again."""
        schedule = MonotoneSchedule(*ENDS).double()
        gamma = ENDS[0] + (ENDS[1] - ENDS[0]) * self.t
        least = ((ENDS[1] - ENDS[0]) * self.h(gamma).mean()).square()

        def moment():
            return (schedule.rate(self.t) * self.h(schedule(self.t))).square().mean()

        start = moment() / least
        optimizer = torch.optim.Adam(schedule.parameters(), lr=0.05)
        for step in range(400):
            t = Draws(0, step).stratified("t", torch.zeros(64, 1))
            optimizer.zero_grad()
            path_variance_loss(schedule, t, schedule.rate(t) * self.h(schedule(t))).mean().backward()
            optimizer.step()
        assert start > 1.5
        assert moment() / least < 1.05

    @pytest.mark.parametrize("name", LEARNED)
    def test_every_parameter_of_a_model_has_a_gradient(self, name):
        """In one backward pass, as DDP needs it."""
        for time in (ContinuousTime(), DiscreteTime(10)):
            model = tiny_model(scrambled(name, 0.3), time=time)
            model.loss(Batch(levels(), torch.arange(16)), Draws(0)).value.mean().backward()
            for parameter in model.parameters():
                assert parameter.grad is not None
            assert any(parameter.grad.abs().max() > 0 for parameter in model.schedule.parameters())

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["learned_monotone", "per_pixel"])
    def test_compiled_gradients_are_the_same(self, name):
        schedule = scrambled(name, 0.3)
        t = torch.rand(8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

        def loss(t):
            gamma, rate = endpoint_gradients_only(schedule, t)
            value = (rate * torch.sigmoid(-gamma)).flatten(1 if gamma.ndim > 1 else 0)
            value = value if value.ndim == 1 else value.sum(1)
            path = path_variance_loss(schedule, t, value)
            return (value + path).mean()

        compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
        for mine, theirs in zip(self.gradients(compiled(t), schedule), self.gradients(loss(t), schedule), strict=True):
            assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-7)


class TestOneGammaForEachDimension:
    """γ of shape (B, *event) wherever (B,) is accepted."""

    @pytest.mark.parametrize("time", [ContinuousTime(), DiscreteTime(6)], ids=["continuous", "discrete"])
    def test_equal_paths_are_a_scalar_schedule(self, time):
        """As a straight line in every dimension it gives the scalar line's numbers, path by path."""
        x, bounds, samples = levels(), [], []
        for schedule in (LinearSchedule(*ENDS), PerPixelSchedule(*ENDS, SHAPE)):
            torch.manual_seed(0)
            model = tiny_model(schedule, time=time).eval()
            nn.init.normal_(model.denoiser.network.last.weight, std=0.1)
            bounds.append(model.elbo(x, Draws(0)))
            samples.append(model.sample(8, SHAPE, sampler=HeunSampler(), steps=5, draws=Draws(1)))
        for name in ("reconstruction", "prior_matching", "denoising_matching"):
            assert torch.allclose(*(getattr(bound, name) for bound in bounds), rtol=1e-5)
        assert torch.equal(*samples)

    def test_bound_of_independent_dimensions(self):
        """For independent N(0, s²) and the ideal denoiser each path drops out: ½ D log[(1 + s² SNR_0)/(1 + s² SNR_1)]."""
        schedule = scrambled("per_pixel", 1.0).double()
        u = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
        gamma, weight, _ = ContinuousTime().gamma_and_weight(schedule, u)
        assert gamma.shape == (2000, *SHAPE)
        error = 0.25 * sigma2(gamma) / (0.25 * sigma2(-gamma) + sigma2(gamma))
        low, high = (torch.tensor(end).double() for end in ENDS)
        exact = 0.5 * 3 * (torch.log1p(0.25 * snr(low)) - torch.log1p(0.25 * snr(high)))
        assert abs(0.5 * (weight * error).sum(1).mean() - exact) < 1e-4 * exact

    def test_one_t_estimates_agree_with_the_full_sum(self):
        model = VDM(scrambled("per_pixel"), gaussian_denoiser(0.0, 0.25), CategoricalLikelihood(17), DiscreteTime(5))
        x = levels(1).expand(4000, *SHAPE)
        one = model.elbo(x, Draws(0)).denoising_matching
        full = model.elbo_all_times(x, Draws(1)).denoising_matching
        error = (one.var() / len(x) + full.var() / len(x)).sqrt()
        assert abs(one.mean() - full.mean()) < 4 * error


class TestRefusals:
    @pytest.mark.parametrize("name", LEARNED)
    def test_gaussian_density_is_refused(self, name):
        with pytest.raises(InvalidInput, match="gamma_min"):
            VDM(SCHEDULES[name], gaussian_denoiser(0.0, 1.0), GaussianLikelihood(), ContinuousTime())

    @pytest.mark.parametrize("name", LEARNED)
    def test_other_objective_is_refused_if_the_bound_trains(self, name):
        with pytest.raises(InvalidInput, match="objective=elbo"):
            tiny_model(SCHEDULES[name], time=DiscreteTime(5), objective=SigmoidObjective())

    def test_other_objective_is_allowed_for_a_path(self):
        tiny_model(SCHEDULES["monotone"], objective=SigmoidObjective())

    def test_importance_sampling_of_t_is_refused(self):
        with pytest.raises(InvalidInput, match="times=stratified"):
            tiny_model(SCHEDULES["monotone"], times=LossMomentTimes())

    @pytest.mark.parametrize("ends", [(-15.5, 5.0), (-2.0, 5.0), (-8.0, 2.0), (-8.0, 12.5)])
    def test_ends_outside_their_ranges_are_refused(self, ends):
        with pytest.raises(InvalidInput, match="is kept within"):
            LearnedEnds(LinearSchedule(*ends))

    @pytest.mark.parametrize("ends", [(-15.0, 12.0), (-3.0, 3.0)])
    def test_ends_at_the_edge_can_move(self, ends):
        schedule = LearnedEnds(LinearSchedule(*ends)).double()
        low, high = schedule(torch.tensor([0.0, 1.0]).double())
        assert (low, high) == ends
        for end, parameter in ((low, schedule.moved_min), (high, schedule.moved_max)):
            (gradient,) = torch.autograd.grad(end, parameter, retain_graph=True)
            assert abs(gradient) == 1


def test_no_weight_decay_on_gamma():
    """At zero gradient γ's weights stay, and the others shrink."""
    model = tiny_model(scrambled("learned_monotone"))
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=0.1, weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, value in model.state_dict().items():
        kept = torch.equal(value, before[name])
        assert kept == (name.startswith("schedule.") or not before[name].any())


def test_adaptive_schedule_makes_the_loss_constant():
    """After enough of a profile h(γ), γ′ h varies little; the straight line's varies many times."""
    schedule = AdaptiveSchedule(*ENDS, bins=50)

    def loss(u):
        return schedule.rate(u) * torch.sigmoid(-schedule(u) - 1)

    t = torch.linspace(0.05, 0.95, 200).double()
    before = loss(t).max() / loss(t).min()
    for step in range(300):
        u = Draws(0, step).stratified("t", torch.zeros(64, 1))
        schedule.update(u, loss(u))
    assert before > 50
    assert loss(t).max() / loss(t).min() < 1.5


@pytest.mark.parametrize("name", options("schedule"))
def test_continuous_bound_is_the_same_for_every_schedule(name):
    """½ ∫ γ′ SNR E‖x̂_0 − x_0‖² dt = ½ [log(1 + s² SNR_0) − log(1 + s² SNR_1)] a dimension, whatever the path."""
    schedule = SCHEDULES[name] if name not in MOVING or "learned" in name else scrambled(name, 0.5)
    schedule = copy.deepcopy(schedule).double()
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    gamma, weight, _ = ContinuousTime().gamma_and_weight(schedule, u)
    error = 0.25 * sigma2(gamma) / (0.25 * sigma2(-gamma) + sigma2(gamma))
    low, high = (torch.tensor(end).double() for end in ENDS)
    exact = 0.5 * (torch.log1p(0.25 * snr(low)) - torch.log1p(0.25 * snr(high)))
    found = 0.5 * (weight * error).reshape(len(u), -1).mean(0)
    assert torch.allclose(found, exact.expand_as(found), rtol=2e-4)


def test_time_of_follows_learned_ends():
    schedule = scrambled("learned_linear", 0.5).double()
    t = torch.linspace(0, 1, 9).double()
    assert torch.allclose(time_of(schedule, schedule(t).detach()), t, rtol=0, atol=1e-12)


def test_config_of_every_schedule_composes_into_a_model():
    for name in options("schedule"):
        assert composed(f"schedule={name}").model.schedule._target_.startswith("vdm.schedules.")
