"""Networks on a table of steps."""

import pytest
import torch

from vdm.denoiser import Denoiser
from vdm.elbo import ContinuousTime, DiscreteTime
from vdm.errors import InvalidInput
from vdm.likelihoods import GaussianLikelihood
from vdm.models import VDM
from vdm.networks import InterpolatedStep, NearestStep, StepNetwork
from vdm.parameterisations import NoiseParameterisation
from vdm.schedules import TabulatedSchedule, cosine_betas, linear_betas

TABLES = {"linear": linear_betas(1000), "cosine": cosine_betas(4000), "short": [0.9, 0.5]}


class Echo(torch.nn.Module):
    def forward(self, x, steps, condition):
        return steps.view(-1, 1).expand_as(x)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("kind", [NearestStep, InterpolatedStep])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_latents_of_the_table_get_their_own_step(name, kind, dtype):
    alphas = TABLES[name]
    schedule, time = TabulatedSchedule(None, None, alphas), DiscreteTime(len(alphas))
    gammas = torch.cat(time.gammas(schedule, torch.zeros(1))).to(dtype)
    expected = torch.arange(len(alphas)).to(dtype)
    rounding = 0.0 if kind is NearestStep else 2e-3 if dtype == torch.float32 else 1e-9
    assert torch.allclose(kind(alphas)(gammas), expected, rtol=0, atol=rounding)
    assert torch.allclose(kind(alphas, scale=0.25)(gammas), 0.25 * expected, rtol=0, atol=rounding)


def test_table_ends_are_its_own_by_default():
    schedule = TabulatedSchedule(None, None, [0.9, 0.8, 0.5])
    bars = torch.tensor([0.9, 0.72, 0.36], dtype=torch.float64)
    assert torch.allclose(schedule(torch.linspace(0, 1, 3).double()), (1 / bars - 1).log(), rtol=1e-12)


def test_cosine_betas_are_the_published_ones():
    """Nichol & Dhariwal 2021, equation 17; the last is clipped to 0.999."""
    alphas = cosine_betas(1000)
    f = torch.cos((torch.arange(1001).double() / 1000 + 0.008) / 1.008 * torch.pi / 2) ** 2
    assert torch.allclose(torch.tensor(alphas[:-1], dtype=torch.float64).cumprod(0), (f / f[0])[1:-1], rtol=1e-10)
    assert alphas[-1] == pytest.approx(0.001)


def test_between_the_steps():
    schedule = TabulatedSchedule(None, None, [0.9, 0.8, 0.5])
    g = schedule.knots
    between = torch.tensor([g[0] - 9, 0.6 * g[0] + 0.4 * g[1], 0.4 * g[1] + 0.6 * g[2], g[2] + 9])
    assert NearestStep([0.9, 0.8, 0.5])(between).tolist() == [0, 0, 2, 2]
    assert InterpolatedStep([0.9, 0.8, 0.5])(between).tolist() == pytest.approx([0, 0.4, 1.6, 2])


def test_nearest_step_is_refused_in_continuous_time():
    alphas = [0.9, 0.8, 0.5]

    def model(steps, time):
        denoiser = Denoiser(StepNetwork(Echo(), steps), NoiseParameterisation())
        return VDM(TabulatedSchedule(None, None, alphas), denoiser, GaussianLikelihood(), time)

    with pytest.raises(InvalidInput, match="InterpolatedStep by name"):
        model(NearestStep(alphas), ContinuousTime())
    with pytest.raises(InvalidInput, match="InterpolatedStep by name"):
        model(NearestStep(alphas), DiscreteTime(3)).at(ContinuousTime())
    assert torch.isfinite(model(InterpolatedStep(alphas), ContinuousTime()).elbo(torch.zeros(2, 3)).total).all()
