"""Laws of every noise schedule, found from the configs."""

import pytest
import torch

from catalogue import options, part
from vdm.errors import InvalidInput
from vdm.gamma import alpha_bar, snr_difference
from vdm.schedules import CosineSchedule, LinearSchedule

ENDS = [(-13.3, 5.0), (-8.0, 5.0), (-6.0, 3.0)]


def build(name, ends):
    return part("model.schedule", f"schedule={name}", f"gamma_min={ends[0]}", f"gamma_max={ends[1]}").double()


def columns(gamma):
    """(B, D): one column a dimension, one in all for a scalar schedule."""
    return gamma.detach().reshape(len(gamma), -1)


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("name", options("schedule"))
class TestEverySchedule:
    def test_ends(self, name, ends):
        schedule = build(name, ends)
        gamma = columns(schedule(torch.tensor([0.0, 1.0], dtype=torch.float64)))
        assert torch.allclose(gamma, torch.tensor(ends, dtype=torch.float64)[:, None].expand_as(gamma), atol=1e-9, rtol=0)

    def test_strictly_increasing(self, name, ends):
        gamma = columns(build(name, ends)(torch.linspace(0, 1, 10_001, dtype=torch.float64)))
        assert (gamma.diff(dim=0) > 0).all()

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


def test_message_of_bad_ends():
    with pytest.raises(InvalidInput, match="gamma_min must be finite and below gamma_max, got gamma_min=5"):
        LinearSchedule(5.0, -13.3)
