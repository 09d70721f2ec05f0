"""Warnings about misleading results, and refusals of settings that would give them."""

import json
import math
from types import SimpleNamespace

import pytest
import torch

from support.catalogue import composed
from support.commands import invoke
from support.tasks import parts
from vdm.cli import train
from vdm.cli.preflight import check_precision
from vdm.errors import InvalidInput
from vdm.estimate import Estimate
from vdm.evaluation import warnings
from vdm.runs.folder import RunFolder
from vdm.runs.provenance import provenance, shared
from vdm.training.build import build

RUN = (
    "trainer.max_steps=10",
    "trainer.val_check_interval=5",
    "trainer.accelerator=cpu",
    "model.denoiser.network.channels=8",
    "model.denoiser.network.blocks=1",
    "model.sampling.steps=4",
    "validation.repeats=2",
    "test.repeats=3",
)
SHORT = ("trainer.max_steps=4", "trainer.val_check_interval=2", "trainer.accelerator=cpu", "model.sampling.steps=2")
TOY = ("experiment=toy", "model.denoiser.network.hidden=8", "model.denoiser.network.blocks=1")


def about(**changes):
    splits = {"train": {"size": 9, "sha256": "a"}, "test": {"size": 4, "sha256": "b", "in_training": 0}}
    return {"name": "x", "splits": splits, **changes}


def warned(value=1.0, prior=0.003, mc_se=0.01, data_se=0.02, data=None, model=None, facts=None, others=(), **more):
    zero = Estimate(0.0, 0.0, 0.0)
    own = {"bits_per_dim": Estimate(value, mc_se, data_se), "prior_matching": Estimate(prior, 0.0, 0.0), "x": zero, **more}
    others = {f"other {number}": {"bits_per_dim": estimate} for number, estimate in enumerate(others)}
    return warnings.warnings(model, own, others, data, {"data": about(), "split": "test", **(facts or {})})


@pytest.fixture(scope="module")
def toy():
    return build(composed(*TOY, "data.sizes={train: 300, val: 50, test: 400}"))


def test_valid_result_has_no_warning(toy):
    entropy, _ = toy.data.entropy("test")
    assert warned(value=entropy + 0.01, model=toy.task.model, data=toy.data) == []
    assert warned(facts={"trained_on": about()}) == []


def test_shared_counts_exact_duplicates():
    """Seven of twenty examples are in the training split, one of them twice."""
    x = torch.arange(60 * 4, dtype=torch.uint8).view(60, 2, 2)
    training, test = x[:30], torch.cat([x[40:53], x[3:9], x[3:4]])
    assert shared(test, training) == 7
    assert shared(training, training) == 30
    assert shared(x[30:], x[:30]) == 0
    assert shared(test[:0], training) == 0
    assert shared(test, training, limit=119) is None
    assert shared(torch.randn(9000, 2).repeat(1, 1), torch.randn(9000, 2)) == 0


def test_provenance_counts_shared_examples():
    data, _ = parts()
    splits = data.splits()
    splits["test"] = splits["test"]._replace(x=torch.cat([splits["test"].x[:10], splits["train"].x[5:8]]))
    found = provenance(data, 0)["data"]["splits"]
    assert found["test"]["in_training"] == 3
    assert found["val"]["in_training"] == 0
    assert "in_training" not in found["train"]
    (sentence,) = warned(facts={"data": {"splits": found}})
    assert sentence.startswith("3 of the 13 test examples occur in the training split")


def test_training_split_is_warned_of():
    assert warned(facts={"split": "train"}) == ["this is the bound of the training examples, not of unseen ones"]


def test_changed_training_data_are_warned_of():
    for unreadable in ("x", 3, {"splits": 3}, {"splits": {"train": 3}}, {"splits": {"train": {}}}):
        assert warned(facts={"trained_on": unreadable}) == []
    before = about(splits={"train": {"sha256": "z"}, "test": {"sha256": "b"}})
    (sentence,) = warned(facts={"trained_on": before})
    assert "other bytes in train" in sentence


def test_mirrored_training_is_warned_of():
    (sentence,) = warned(facts={"data": about(flip=True)})
    assert "augmented" in sentence
    assert warned(facts={"data": about(flip=False)}) == []


def test_large_prior_is_warned_of_for_diffusion_models(toy):
    (sentence,) = warned(value=9.0, prior=0.02, model=toy.task.model)
    assert "raise gamma_max" in sentence
    assert "0.020" in sentence
    assert warned(value=9.0, prior=warnings.LARGE_PRIOR, model=toy.task.model) == []
    assert warned(prior=0.02, model=torch.nn.Identity()) == []


def test_small_gamma_max_gives_a_large_prior(toy):
    """The toy's prior term is above the threshold at γ_max = 1 and below it at 6."""
    for gamma_max, number in ((1.0, 1), (6.0, 0)):
        data, task = build(composed(*TOY, f"gamma_max={gamma_max}", "data.sizes={train: 300, val: 50, test: 200}"))
        prior = task.model.elbo(data.splits()["test"].x).terms()["prior_matching"].mean().item()
        assert len(warned(value=9.0, prior=prior, model=task.model)) == number


def test_above_entropy_states_the_gap(toy):
    entropy, _ = toy.data.entropy("test")
    sentence = warnings.above_entropy(Estimate(entropy + 0.5, 0.01, 0.02), toy.data, "test")
    assert f"known: {entropy:.4f} bits/dim; the bound is 0.5000 above it" in sentence
    assert warnings.above_entropy(Estimate(1.0, 0.01, 0.02), object(), "test") is None


def test_bound_below_entropy_is_warned_of(toy):
    """The threshold is four joint standard errors, for every estimate of the report."""
    entropy, _ = toy.data.entropy("test")
    error = math.hypot(0.01, 0.02)
    assert warned(value=entropy - 3.9 * error, data=toy.data) == []
    (sentence,) = warned(value=entropy - 4.1 * error, data=toy.data)
    assert "4 standard errors better than the data's own entropy" in sentence
    assert len(warned(value=entropy, data=toy.data, others=[Estimate(entropy - 1, 0.01, 0.02)])) == 1
    assert warned(value=entropy, data=toy.data, others=[Estimate(entropy - 1, 0.01, math.nan)]) == []
    assert len(warned(value=entropy - 1, mc_se=0.0, data_se=0.0, data=toy.data)) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_value_is_warned_of_by_name(value):
    """In the bound, in one of its terms, in another estimate and in a score of samples."""
    invalid = Estimate(value, 0.01, 0.02)
    assert f"bound: bits_per_dim = {value}" in warned(value=value)[0]
    assert f"bound: layer_2 = {value}" in warned(layer_2=invalid)[0]
    assert f"bound: x mc_se = {value}" in warned(x=Estimate(1.0, value, 0.0))[0]
    assert f"other 0: bits_per_dim = {value} is not a valid result" in warned(others=[invalid])[0]
    assert f"samples: fid = {value}" in warned(facts={"samples": {"fid": value, "n": 3}})[0]
    assert "and 1 more" in warned(value=value, x=invalid._replace(mc_se=value), layer_2=invalid)[0]


def test_few_replicates_are_warned_of():
    (sentence,) = warned(bits_per_dim=Estimate(1.0, 0.005, 0.02, df=1))
    assert "0.005 has 1 degree of freedom" in sentence
    assert "0.936 to 1.064" in sentence
    assert "repeats=9 or more" in sentence
    assert warned(bits_per_dim=Estimate(1.0, 0.005, 0.02, df=8)) == []
    assert warned(bits_per_dim=Estimate(1.0, 0.0, 0.02, df=1)) == []


def test_heavy_tails_are_warned_of():
    (sentence,) = warned(bits_per_dim=Estimate(1.0, 0.005, 0.02, df=31, skew=0.4))
    assert "skewness 0.40" in sentence
    assert warned(bits_per_dim=Estimate(1.0, 0.005, 0.02, df=31, skew=0.1)) == []


def test_unknown_data_se_is_warned_of():
    (sentence,) = warned(data_se=math.nan)
    assert "one example" in sentence


def test_large_reconstruction_is_warned_of(toy):
    """With the γ_min that suits the levels, for a diffusion of levels only."""
    digits = parts().task.model
    (sentence,) = warned(model=digits, reconstruction=Estimate(3.28, 0.01, 0.01))
    assert "3.280" in sentence
    assert "gamma_min, to about -7.9" in sentence
    assert warned(model=digits, reconstruction=Estimate(0.1, 0.01, 0.01)) == []
    assert warned(model=toy.task.model, reconstruction=Estimate(3.28, 0.01, 0.01)) == []


def test_wide_error_bar_is_warned_of():
    """The number of draws to use grows with the square of the error."""
    (sentence,) = warned(value=1.0, mc_se=0.02)
    assert "0.02 bits/dim, exceeds the second decimal: use 4 times as many draws (repeats=…)" in sentence
    assert "exceeds" in warned(value=1.0, mc_se=math.inf)[0]
    assert warned(value=1.0, mc_se=0.01) == []


def test_one_test_example_gives_null_and_a_sentence(tmp_path):
    """metrics.json is JSON without NaN, and is read again."""
    sizes = "data.sizes={train: 300, val: 50, test: 1}"
    assert invoke(train, *TOY, *SHORT, "test.repeats=3", sizes, f"hydra.run.dir={tmp_path}") == 0

    def refuse(constant):
        raise AssertionError(constant)

    metrics = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)
    assert metrics["test"]["bits_per_dim"]["data_se"] is None
    assert any(sentence.startswith("data_se is unknown (null)") for sentence in metrics["warnings"])
    assert math.isnan(RunFolder(tmp_path).result()["test"].data_se)


def test_run_under_autocast_is_refused_before_training(tmp_path, capsys):
    assert invoke(train, *RUN, "trainer.precision=bf16-mixed", f"hydra.run.dir={tmp_path}") == 2
    assert "not evaluated under autocast" in capsys.readouterr().err
    assert not (tmp_path / "metrics.csv").exists()


@pytest.mark.parametrize("precision", ["16-mixed", "16-true"])
def test_float16_is_refused(precision):
    """Gradients overflow in float16 by design, which would end the run."""
    with pytest.raises(InvalidInput, match=f"trainer.precision={precision}: .* choose trainer=fast"):
        check_precision(SimpleNamespace(trainer=SimpleNamespace(precision=precision), task=parts().task))


def test_warnings_are_printed_and_stored(tmp_path, capsys):
    assert invoke(train, *RUN, "gamma_max=1", f"hydra.run.dir={tmp_path}") == 0
    (sentence,) = [s for s in json.loads((tmp_path / "metrics.json").read_text())["warnings"] if "gamma_max" in s]
    assert sentence in capsys.readouterr().out
