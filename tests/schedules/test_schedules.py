"""Laws of every noise schedule, found from the configs."""

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scipy.interpolate import PchipInterpolator

from support.catalogue import options, part
from vdm.errors import InvalidInput
from vdm.gamma import alpha_bar, snr_difference
from vdm.laws.schedules import check_schedule
from vdm.schedules import CosineSchedule, DDPMSchedule, LinearSchedule, SigmoidSchedule, TabulatedSchedule, linear_betas

ENDS = [(-13.3, 5.0), (-8.0, 5.0), (-6.0, 3.0)]


def build(name, ends):
    """The schedule, or a skip where it has no such γ and says so (a table ends somewhere)."""
    try:
        return part("model.schedule", f"schedule={name}", f"gamma_min={ends[0]}", f"gamma_max={ends[1]}").double()
    except InvalidInput as error:
        if "runs from" in str(error):
            pytest.skip(str(error))
        raise


def columns(gamma):
    """(B, D): one column a dimension, one in all for a scalar schedule."""
    return gamma.detach().reshape(len(gamma), -1)


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("name", options("schedule"))
class TestEverySchedule:
    def test_obeys_its_law(self, name, ends):
        """Ends, monotony and derivative, as a schedule of one's own has to."""
        with torch.no_grad():
            check_schedule(build(name, ends), tolerance=1e-9)

    def test_rate_is_the_derivative(self, name, ends):
        schedule = build(name, ends)
        t = torch.linspace(0.003, 0.997, 401, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(schedule(t).sum(), t)
        assert torch.allclose(columns(schedule.rate(t.detach())).sum(1), slope, rtol=1e-8)
        assert (schedule.rate(torch.linspace(0, 1, 101, dtype=torch.float64)) > 0).all()

    def test_rate_works_in_inference_mode(self, name, ends):
        with torch.inference_mode():
            schedule, t = build(name, ends), torch.rand(4, dtype=torch.float64)
            assert schedule.rate(t).shape == schedule(t).shape
            assert len(schedule(t)) == 4

    def test_refuses_ends_out_of_order(self, name, ends):
        low, high = ends
        for bad in ((high, low), (low, low), (float("nan"), high), (low, float("inf"))):
            with pytest.raises(Exception, match="gamma_min"):
                build(name, bad)

    def test_snr_differences_in_float32(self, name, ends):
        """Within 1e-3 of float64 at T = 10⁴ (PITFALLS: by differences of ᾱ/(1 − ᾱ) the error is over 100 %)."""
        schedule = build(name, ends)
        t = torch.linspace(0, 1, 10_000, dtype=torch.float64)
        gamma = columns(schedule(t))
        exact = snr_difference(gamma[:-1], gamma[1:])
        gamma = gamma.float()
        single = snr_difference(gamma[:-1], gamma[1:]).double()
        assert ((single - exact).abs() / exact).max() < 1e-3


def test_linear_is_linear():
    t = torch.rand(9, dtype=torch.float64)
    assert torch.allclose(LinearSchedule(-10.0, 6.0)(t), -10 + 16 * t)


def test_cosine_is_cosine():
    schedule = CosineSchedule(-9.0, 4.0)
    t = torch.rand(9, dtype=torch.float64)
    tau = schedule.start + (schedule.end - schedule.start) * t
    assert torch.allclose(alpha_bar(schedule(t)), torch.cos(torch.pi / 2 * tau).square())


@pytest.mark.parametrize("name", options("schedule"))
def test_largest_ends_are_covered(name):
    """A skip above must not become the rule."""
    build(name, ENDS[1])
    build(name, ENDS[2])


def test_ddpm_is_the_linear_beta():
    """γ → log ᾱ = −(β_0 τ + ½ (β_1 − β_0) τ²), and −d log ᾱ/dτ = β_0 + (β_1 − β_0) τ."""
    schedule = DDPMSchedule(-9.0, 4.0, beta_0=0.2, beta_1=15.0)
    tau = schedule.start + (schedule.end - schedule.start) * torch.rand(9, dtype=torch.float64)
    tau.requires_grad_()
    log_alpha_bar = alpha_bar(schedule.curve(tau)).log()
    assert torch.allclose(log_alpha_bar, -(0.2 * tau + 0.5 * 14.8 * tau**2), rtol=1e-9)
    (slope,) = torch.autograd.grad(-log_alpha_bar.sum(), tau)
    assert torch.allclose(slope, 0.2 + 14.8 * tau, rtol=1e-9)


def test_ddpm_is_the_limit_of_its_table():
    """Over ends that both reach, the curves of β and of the 1000 steps differ by a step's breadth at most."""
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    ends = (-6.0, 9.0)
    curve, table = DDPMSchedule(*ends), TabulatedSchedule(*ends, alphas=linear_betas())
    assert (curve(t) - table(t)).abs().max() < table.rate(t).max() / 1000


def test_sigmoid_is_the_sigmoid():
    low, high = -2.0, 4.0
    schedule = SigmoidSchedule(-6.0, 3.0, low, high)
    tau = schedule.start + (schedule.end - schedule.start) * torch.rand(9, dtype=torch.float64)
    s_low, s_high = torch.sigmoid(torch.tensor([low, high], dtype=torch.float64))
    expected = (s_high - torch.sigmoid(low + (high - low) * tau)) / (s_high - s_low)
    assert torch.allclose(alpha_bar(schedule.curve(tau)), expected, rtol=1e-12)


class TestTable:
    alphas = (0.999, 0.99, 0.9, 0.95, 0.5, 0.7, 0.1)

    def test_passes_through_the_table(self):
        schedule = TabulatedSchedule(-6.0, 3.0, self.alphas)
        steps = torch.arange(1, len(self.alphas) + 1, dtype=torch.float64)
        products = torch.tensor(self.alphas, dtype=torch.float64).cumprod(0)
        assert torch.allclose(alpha_bar(schedule.curve(steps)), products, rtol=1e-12)

    def test_is_the_monotone_cubic(self):
        """scipy's PCHIP, but for the first and last pieces, whose end slopes are kept positive here."""
        schedule = TabulatedSchedule(-6.0, 3.0, self.alphas)
        number = np.arange(1, len(self.alphas) + 1)
        tau = torch.linspace(2, len(self.alphas) - 1, 57, dtype=torch.float64)
        expected = PchipInterpolator(number, schedule.knots.numpy())
        assert np.allclose(schedule.curve(tau), expected(tau), rtol=1e-12)
        assert np.allclose(schedule.curve_rate(tau), expected(tau, 1), rtol=1e-12)

    @pytest.mark.parametrize("seed", range(5))
    def test_any_table_gives_a_positive_rate(self, seed):
        """Also where the secants jump by orders of magnitude."""
        random = np.random.default_rng(seed)
        alphas = 1 - 10 ** random.uniform(-5, -0.1, size=40)
        low, high = TabulatedSchedule(-0.1, 0.1, [1 - 1e-5, *alphas]).knots[[0, -1]].tolist()
        schedule = TabulatedSchedule(low + 1e-6, high - 1e-6, [1 - 1e-5, *alphas])
        t = torch.linspace(0, 1, 20_001, dtype=torch.float64)
        assert (schedule.rate(t) > 0).all()
        assert (schedule(t).diff() > 0).all()

    def test_refuses_ends_beyond_the_table(self):
        with pytest.raises(InvalidInput, match=r"runs from -9\.2102 to 10\.\d+, got gamma_min=-13\.3"):
            TabulatedSchedule(-13.3, 5.0, linear_betas())
        with pytest.raises(InvalidInput, match="runs from"):
            TabulatedSchedule(-8.0, 12.0, linear_betas())

    @pytest.mark.parametrize("alphas", [[0.9], [], [0.9, 1.0], [0.9, 0.0], [0.9, float("nan")]])
    def test_refuses_an_invalid_table(self, alphas):
        with pytest.raises(InvalidInput, match="table of alphas"):
            TabulatedSchedule(-6.0, 3.0, alphas)

    def test_table_can_be_given_in_a_yaml(self):
        node = {"_target_": "vdm.schedules.TabulatedSchedule", "gamma_min": -3, "gamma_max": 1, "alphas": [0.99, 0.8, 0.2]}
        assert len(instantiate(OmegaConf.create(node)).knots) == 3


def test_message_of_bad_ends():
    for ends in ((-1000.0, 5.0), (-8.0, 1000.0)):
        with pytest.raises(InvalidInput, match="must be between ±50"):
            LinearSchedule(*ends)
    with pytest.raises(InvalidInput, match="gamma_min must be finite and below gamma_max, got gamma_min=5"):
        LinearSchedule(5.0, -13.3)
