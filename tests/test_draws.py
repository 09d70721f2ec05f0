"""Randomness has one door, and what comes through it depends on its key alone."""

import pytest
import torch

from support.given_draws import GivenDraws
from vdm.draws import Draws, ExampleDraws
from vdm.errors import InvalidInput

LIKE = torch.zeros(6, 2, 3)


def test_a_draw_is_a_function_of_its_name():
    draws = Draws(seed=4)
    first = draws.normal("x_t", LIKE)
    draws.uniform("t", LIKE)
    assert torch.equal(first, draws.normal("x_t", LIKE))
    assert torch.equal(first, Draws(seed=4).normal("x_t", LIKE))
    assert not torch.equal(first, draws.normal("x_1", LIKE))


@pytest.mark.parametrize("other", [{"seed": 5}, {"step": 1}, {"rank": 1}])
def test_seed_step_and_rank_change_the_noise(other):
    base = {"seed": 4, "step": 0, "rank": 0}
    assert not torch.equal(Draws(**base).normal("x_t", LIKE), Draws(**{**base, **other}).normal("x_t", LIKE))


def test_stratified_times_cover_the_global_batch():
    """The W·B times of all ranks fall one into each of W·B equal parts of [0, 1)."""
    ranks, local = 3, torch.zeros(5, 1)
    u = torch.cat([Draws(seed=1, step=7, rank=rank, world_size=ranks).stratified("t", local) for rank in range(ranks)])
    assert sorted((u * 15).floor().int().tolist()) == list(range(15))


def test_one_process_stratifies_like_many():
    whole = Draws(seed=1, step=7).stratified("t", torch.zeros(6, 1))
    halves = [Draws(seed=1, step=7, rank=r, world_size=2).stratified("t", torch.zeros(3, 1)) for r in (0, 1)]
    assert torch.allclose(whole, torch.cat(halves))


def test_each_stratified_time_is_uniform():
    """Mean and variance of one row's u over many steps, within 4 standard errors."""
    n = 4000
    u = torch.stack([Draws(seed=0, step=step).stratified("t", LIKE)[2] for step in range(n)])
    assert abs(u.mean() - 0.5) < 4 * (1 / 12 / n) ** 0.5
    assert abs(u.var() - 1 / 12) < 4 * (1 / 180 / n) ** 0.5


def test_example_draws_do_not_depend_on_the_batch():
    index = torch.tensor([5, 2, 9, 100, 7, 0])
    whole = ExampleDraws(index, seed=3, repeat=1)
    for part in (slice(0, 2), slice(2, 6), slice(3, 4)):
        piece = ExampleDraws(index[part], seed=3, repeat=1)
        assert torch.equal(whole.normal("x_t", LIKE)[part], piece.normal("x_t", LIKE[part]))
        assert torch.equal(whole.uniform("t", LIKE)[part], piece.uniform("t", LIKE[part]))
        assert torch.equal(whole.stratified("t", LIKE)[part], piece.stratified("t", LIKE[part]))
    assert not torch.equal(whole.normal("x_t", LIKE), ExampleDraws(index, seed=3, repeat=2).normal("x_t", LIKE))


def test_example_draws_stratify_any_range_of_examples():
    """The mean of u(1 − u) over 300 consecutive examples: far nearer to 1/6 than independent times would come."""
    u = ExampleDraws(torch.arange(1000, 1300)).stratified("t", torch.zeros(300, 1))
    independent_se = (1 / 180 / 300) ** 0.5
    assert abs((u * (1 - u)).mean() - 1 / 6) < independent_se / 5


@pytest.mark.parametrize("draws", [Draws(seed=8), ExampleDraws(torch.arange(2000), seed=8)], ids=["batch", "example"])
def test_normals_are_standard(draws):
    x = draws.normal("x_t", torch.zeros(2000, 7, dtype=torch.float64))
    n = x.numel()
    assert abs(x.mean()) < 4 / n**0.5
    assert abs(x.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs((x[:, 0] * x[:, 1]).mean()) < 4 / 2000**0.5
    assert x.dtype == torch.float64


def test_given_draws_refuse_unknown_names():
    eps = torch.randn(6, 2, 3)
    draws = GivenDraws({"x_t": eps, "t": torch.linspace(0, 1, 6)})
    assert torch.equal(draws.normal("x_t", LIKE), eps)
    assert torch.equal(draws.stratified("t", LIKE), torch.linspace(0, 1, 6))
    with pytest.raises(InvalidInput, match="no draw named 'x_1' was given; given are: t, x_t"):
        draws.normal("x_1", LIKE)
    with pytest.raises(InvalidInput, match="has shape"):
        draws.normal("x_t", torch.zeros(2, 3))


def test_wrong_number_of_rows_is_refused():
    with pytest.raises(InvalidInput, match="for 3 examples"):
        ExampleDraws(torch.arange(3)).normal("x_t", LIKE)
