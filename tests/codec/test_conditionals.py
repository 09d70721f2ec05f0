"""Conditionals as the entropy coder sees them."""

import constriction
import numpy as np
import pytest
import torch

from vdm.codec.conditionals import BinnedGaussian, Levels
from vdm.codec.stack import Stack, initial_words
from vdm.process import gaussian


def kernel(spread=0.0):
    generator = torch.Generator().manual_seed(3)
    mean = 40 * torch.randn(2, 30, dtype=torch.float64, generator=generator)
    scale = torch.exp(spread * torch.randn(2, 30, dtype=torch.float64, generator=generator))
    return gaussian(mean, 3 * scale)


def coder(words=2000):
    return constriction.stream.stack.AnsCoder(initial_words(words, "test"))


@pytest.mark.parametrize("spread", [0.0, 2.0])
def test_draw_is_undone_by_store(spread):
    given, stack = BinnedGaussian(kernel(spread), 0.5), coder()
    before = stack.get_compressed()
    values = [given.draw(stack, row) for row in range(2)]
    for row in reversed(range(2)):
        given.store(stack, row, values[row])
    assert np.array_equal(stack.get_compressed(), before)


@pytest.mark.parametrize("distance", [0, 12, 13, 14, 36, 37, 38, 1000, 2**39])
def test_any_value_can_be_stored(distance):
    """At a standard deviation of 3 the core ends at 13 bins and the tail 24 bins further."""
    given, stack = BinnedGaussian(gaussian(torch.zeros(1, 4).double(), torch.full((1, 4), 3.0).double()), 1.0), coder()
    before, values = stack.get_compressed(), np.array([distance, -distance, 0, 1])
    given.store(stack, 0, values)
    assert np.array_equal(given.draw(stack, 0), values)
    assert np.array_equal(stack.get_compressed(), before)


def test_latents_beyond_all_steps_are_refused():
    given = BinnedGaussian(gaussian(torch.zeros(1, 1).double(), torch.ones(1, 1).double()), 1.0)
    with pytest.raises(FloatingPointError):
        given.store(coder(), 0, np.array([2**41]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_parameters_that_are_not_finite_are_refused(value):
    with pytest.raises(FloatingPointError):
        BinnedGaussian(gaussian(torch.full((1, 2), value).double(), torch.ones(1, 2).double()), 1.0)


def test_bin_masses_add_up_to_one():
    given = BinnedGaussian(gaussian(torch.tensor([[0.3]]).double(), torch.tensor([[2.5]]).double()), 1.0)
    masses = [2 ** -given.bits(np.array([[b]]))[0] for b in range(-60, 61)]
    assert sum(masses) == pytest.approx(1, abs=1e-12)


def test_stored_bits_are_those_of_the_bin_masses():
    """Within 24-bit counts, for values that the conditional itself draws."""
    given, stack = BinnedGaussian(kernel(), 0.5), Stack(initial_words(2000, "test"), "test")
    values = np.stack([given.draw(stack.coder, row) for row in range(2)])
    before = stack.bits
    for row in range(2):
        given.store(stack.coder, row, values[row])
    assert stack.bits - before == pytest.approx(given.bits(values).sum(), rel=1e-4)


@pytest.mark.parametrize("value", [8, 12, 13, 14, 16, 18, 20])
def test_tails_cost_the_bits_of_their_bins(value):
    """Up to 35 bits, where the coder's 24 alone would be too few."""
    given = BinnedGaussian(gaussian(torch.full((1, 1), 0.2).double(), torch.full((1, 1), 3.0).double()), 1.0)
    for sign in (-1, 1):
        stack, values = Stack(initial_words(10, "test"), "test"), np.array([[sign * value]])
        before = stack.bits
        given.store(stack.coder, 0, values[0])
        assert stack.bits - before == pytest.approx(given.bits(values)[0], abs=0.07)


def test_levels_are_undone_and_cost_their_log_probability():
    log_probs = torch.log_softmax(torch.randn(2, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), -1)
    given, stack = Levels(log_probs), Stack(initial_words(100, "test"), "test")
    values = np.array([[0, 1, 2, 3, 6], [6, 5, 4, 0, 0]])
    before, words = stack.bits, stack.words()
    for row in range(2):
        given.store(stack.coder, row, values[row])
    assert stack.bits - before == pytest.approx(given.bits(values).sum(), rel=1e-4)
    assert np.array_equal([given.draw(stack.coder, row) for row in (1, 0)], values[::-1])
    assert np.array_equal(stack.words(), words)
