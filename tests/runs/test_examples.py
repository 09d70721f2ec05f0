"""The file of single examples' values, and collecting them."""

import numpy as np
import pytest
import torch

from support.oracles import GaussianData
from support.results import bits, examples
from vdm.batch import Batch
from vdm.draws import ExampleDraws
from vdm.elbo import ContinuousTime, DiscreteTime
from vdm.errors import InvalidInput
from vdm.evaluation import BoundEvaluation
from vdm.evaluation.examples import ExampleCollector, noise_levels
from vdm.likelihoods import GaussianLikelihood
from vdm.models import VDM
from vdm.runs.examples import read_examples, write_examples
from vdm.schedules import LinearSchedule
from vdm.terms import TERMS
from vdm.times import StratifiedTimes

DATA = GaussianData.isotropic(0.0, 0.25, (3,))
EVALUATION = BoundEvaluation(repeats=4, seed=7)


def model(time):
    return VDM(LinearSchedule(-6.0, 5.0), DATA.denoiser, GaussianLikelihood(), time, StratifiedTimes())


def collect(collectors, x, vdm, sizes):
    for number, index in enumerate(torch.arange(len(x)).split(sizes)):
        batch = Batch(x[index], index)
        collectors[number % len(collectors)].add(vdm, batch, EVALUATION(vdm, batch))


def test_examples_are_read_as_written(tmp_path):
    content = examples(bits(1), gamma=bits(2).astype("float32"), estimates={"flow": bits(3, n=5)})
    write_examples(tmp_path / "examples.npz", content)
    read = read_examples(tmp_path / "examples.npz")
    assert read.about == content.about
    for name in TERMS:
        assert (read.terms[name] == content.terms[name]).all()
    assert (read.gamma == content.gamma).all()
    assert (read.estimates["flow"] == content.estimates["flow"]).all()


def test_equal_examples_are_equal_bytes(tmp_path):
    for name in "ab":
        write_examples(tmp_path / name, examples(bits(1)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:200] + b"x" * 50 + b[250:]])
def test_damaged_examples_are_refused(tmp_path, damage):
    path = tmp_path / "examples.npz"
    write_examples(path, examples(bits(1)))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_examples(path)


@pytest.mark.parametrize(
    "change",
    [
        {"terms": {name: bits(1)[:-1] for name in TERMS}},
        {"index": np.arange(40)[::-1]},
        {"about": {**examples(bits(1)).about, "format": 99}},
        {"gamma": np.zeros((3, 3))},
    ],
    ids=["fewer values", "order", "format", "gamma"],
)
def test_malformed_examples_are_refused(tmp_path, change):
    write_examples(tmp_path / "examples.npz", examples(bits(1))._replace(**change))
    with pytest.raises(InvalidInput):
        read_examples(tmp_path / "examples.npz")


def test_collector_keeps_the_evaluations_values():
    x, vdm = DATA.sample(11), model(ContinuousTime())
    collector = ExampleCollector(EVALUATION)
    collect([collector], x, vdm, [4, 4, 3])
    found, whole = collector.gather(torch.device("cpu")), EVALUATION(vdm, Batch(x, torch.arange(11)))
    assert found.index.tolist() == list(range(11))
    for i, name in enumerate(TERMS):
        assert found.terms[name] == pytest.approx(whole[i].numpy(), rel=1e-9)


def test_two_collectors_hold_what_one_does(monkeypatch):
    """The rows of two processes, gathered, are those of one: every second batch is the other's."""
    x, vdm = DATA.sample(11), model(ContinuousTime())
    one, two = [ExampleCollector(EVALUATION)], [ExampleCollector(EVALUATION) for _ in range(2)]
    collect(one, x, vdm, [3, 3, 3, 2])
    collect(two, x, vdm, [3, 3, 3, 2])
    two[0]._pieces += two[1]._pieces  # what all_gather_rows does over processes
    a, b = (collectors[0].gather(torch.device("cpu")) for collectors in (one, two))
    assert (a.index == b.index).all()
    assert (a.gamma == b.gamma).all()
    assert all((a.terms[name] == b.terms[name]).all() for name in TERMS)


@pytest.mark.parametrize("time", [ContinuousTime(), DiscreteTime(7)], ids=str)
def test_noise_levels_are_those_of_the_bounds_draws(time):
    """``VDM.loss`` reports γ_t beside the bound of the same draws."""
    x, index = DATA.sample(6), torch.arange(6)
    found = noise_levels(model(time), Batch(x, index), EVALUATION)
    for repeat in range(EVALUATION.repeats):
        loss = model(time).loss(Batch(x, index), ExampleDraws(index, EVALUATION.seed, repeat))
        assert torch.equal(found[:, repeat], loss.gamma_t)
