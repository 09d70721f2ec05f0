"""Numbers that are not what they seem are accompanied by a sentence, or refused."""

import json
import math
import sys
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from cli.test_commands import SMALL as RUN
from support.catalogue import composed
from support.tasks import parts, trainer_for
from vdm.cli import train
from vdm.cli.preflight import check_precision
from vdm.config.composed import to_plain
from vdm.data.overlap import shared
from vdm.errors import InvalidInput
from vdm.estimate import Estimate
from vdm.evaluation import BoundEvaluation, warnings
from vdm.runs.checkpoints import read_content
from vdm.runs.provenance import provenance
from vdm.training.build import build
from vdm.training.callbacks.checkpoint_metadata import CheckpointMetadata
from vdm.training.callbacks.last import LastCheckpoint
from vdm.training.callbacks.stop_on_non_finite import StopOnNonFinite
from vdm.training.replay import replay

TOY = ("experiment=toy", "model.denoiser.network.hidden=8", "model.denoiser.network.blocks=1")


def about(**changes):
    splits = {"train": {"size": 9, "sha256": "a"}, "test": {"size": 4, "sha256": "b", "in_training": 0}}
    return {"name": "x", "splits": splits, **changes}


def said(value=1.0, prior=0.003, mc_se=0.01, data_se=0.02, data=None, model=None, facts=None, others=()):
    zero = Estimate(0.0, 0.0, 0.0)
    own = {"bits_per_dim": Estimate(value, mc_se, data_se), "prior_matching": Estimate(prior, 0.0, 0.0), "x": zero}
    return warnings.warnings(model, own, list(others), data, {"data": about(), "split": "test", **(facts or {})})


@pytest.fixture(scope="module")
def toy():
    return build(composed(*TOY, "data.sizes={train: 300, val: 50, test: 400}"))


def test_an_honest_number_has_no_warning(toy):
    entropy, _ = toy.data.entropy("test")
    assert said(value=entropy + 0.01, model=toy.task.model, data=toy.data) == []
    assert said(facts={"trained_on": about()}) == []


def test_shared_examples_are_counted_exactly():
    """Seven of twenty, one of them twice; equal numbers of another type are other bytes."""
    x = torch.arange(60 * 4, dtype=torch.uint8).view(60, 2, 2)
    training, test = x[:30], torch.cat([x[40:53], x[3:9], x[3:4]])
    assert shared(test, training) == 7
    assert shared(training, training) == 30
    assert shared(x[30:], x[:30]) == 0
    assert shared(test[:0], training) == 0
    assert shared(test, training, limit=119) is None
    assert shared(torch.randn(9000, 2).repeat(1, 1), torch.randn(9000, 2)) == 0


def test_the_number_of_shared_examples_stands_in_the_provenance():
    data, _ = parts()
    splits = data.splits()
    splits["test"] = splits["test"]._replace(x=torch.cat([splits["test"].x[:10], splits["train"].x[5:8]]))
    found = provenance(data, 0)["data"]["splits"]
    assert found["test"]["in_training"] == 3
    assert found["val"]["in_training"] == 0
    assert "in_training" not in found["train"]
    (sentence,) = said(facts={"data": {"splits": found}})
    assert sentence.startswith("3 of the 13 test examples occur in the training split")


def test_evaluating_the_training_split_is_told():
    assert said(facts={"split": "train"}) == ["this is the bound of the training examples, not of unseen ones"]


def test_other_data_than_those_of_training_are_told():
    for unreadable in ("x", 3, {"splits": 3}, {"splits": {"train": 3}}, {"splits": {"train": {}}}):
        assert said(facts={"trained_on": unreadable}) == []
    before = about(splits={"train": {"sha256": "z"}, "test": {"sha256": "b"}})
    (sentence,) = said(facts={"trained_on": before})
    assert "other bytes in train" in sentence


def test_mirrored_training_is_told():
    (sentence,) = said(facts={"data": about(flip=True)})
    assert "augmented" in sentence
    assert said(facts={"data": about(flip=False)}) == []


def test_a_large_prior_is_told_of_diffusion_models_only(toy):
    (sentence,) = said(value=9.0, prior=0.02, model=toy.task.model)
    assert "raise gamma_max" in sentence
    assert "0.020" in sentence
    assert said(value=9.0, prior=warnings.LARGE_PRIOR, model=toy.task.model) == []
    assert said(prior=0.02, model=torch.nn.Identity()) == []


def test_the_prior_of_a_schedule_that_ends_early_is_large(toy):
    """On real data: at γ_max = 1 the toy's prior term is above the threshold, at 6 it is below."""
    for gamma_max, number in ((1.0, 1), (6.0, 0)):
        data, task = build(composed(*TOY, f"gamma_max={gamma_max}", "data.sizes={train: 300, val: 50, test: 200}"))
        prior = task.model.elbo(data.splits()["test"].x).terms()["prior_matching"].mean().item()
        assert len(said(value=9.0, prior=prior, model=task.model)) == number


def test_the_known_answer_stands_beside_the_bound(toy):
    entropy, _ = toy.data.entropy("test")
    sentence = warnings.above_entropy(Estimate(entropy + 0.5, 0.01, 0.02), toy.data, "test")
    assert f"known: {entropy:.4f} bits/dim; the bound is 0.5000 above it" in sentence
    assert warnings.above_entropy(Estimate(1.0, 0.01, 0.02), object(), "test") is None


def test_a_bound_better_than_the_entropy_is_told(toy):
    """Four joint standard errors below, and no nearer; of every estimate in the report."""
    entropy, _ = toy.data.entropy("test")
    error = math.hypot(0.01, 0.02)
    assert said(value=entropy - 3.9 * error, data=toy.data) == []
    (sentence,) = said(value=entropy - 4.1 * error, data=toy.data)
    assert "4 standard errors better than the data's own entropy" in sentence
    assert len(said(value=entropy, data=toy.data, others=[Estimate(entropy - 1, 0.01, 0.02)])) == 1
    assert said(value=entropy, data=toy.data, others=[Estimate(entropy - 1, 0.01, math.nan)]) == []
    assert len(said(value=entropy - 1, mc_se=0.0, data_se=0.0, data=toy.data)) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_no_result(value):
    assert any("is no result" in sentence for sentence in said(value=value, mc_se=value))
    assert "is no result" in said(others=[Estimate(value, 0.01, 0.02)])[0]


def test_a_wide_error_bar_is_told():
    """Wider than the second decimal, which is what is quoted; the draws that would do go with its square."""
    (sentence,) = said(value=1.0, mc_se=0.02)
    assert "0.02 bits/dim, is wider than the second decimal: 4 times the draws would do (repeats=…)" in sentence
    assert "wider" in said(value=1.0, mc_se=math.inf)[0]
    assert said(value=1.0, mc_se=0.01) == []


@pytest.mark.parametrize(
    ("estimate", "shown"),
    [
        ((1.74231, 0.009, 0.0223), ("1.742", "0.009", "0.022")),
        ((1.74231, 0.0, 0.0), ("1.7423", "0.0000", "0.0000")),
        ((1.74231, 0.5, math.nan), ("1.74", "0.50", "nan")),
        ((174.231, 12.3, 3.0), ("174", "12", "3")),
        ((0.0038123, 0.00011, 0.00012), ("0.0038", "0.0001", "0.0001")),
    ],
)
def test_no_digit_is_printed_beyond_the_error_bar(estimate, shown):
    assert Estimate(*estimate).shown() == shown


def test_evaluation_refuses_autocast_unless_asked():
    data, task = parts()
    (batch, *_) = data.ordered("test")
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(InvalidInput, match="not evaluated under autocast"):
            BoundEvaluation(2)(task.evaluated, batch)
        BoundEvaluation(2, autocast=True)(task.evaluated, batch)
    BoundEvaluation(2)(task.evaluated, batch)


def command(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vdm-train", *RUN, *arguments])
        try:
            train.main()
        except SystemExit as end:
            return end.code
    return 0


def test_a_run_under_autocast_is_refused_before_it_trains(tmp_path, capsys):
    assert command("trainer.precision=bf16-mixed", f"hydra.run.dir={tmp_path}") == 2
    assert "not evaluated under autocast" in capsys.readouterr().err
    assert not (tmp_path / "metrics.csv").exists()


@pytest.mark.parametrize("precision", ["16-mixed", "16-true"])
def test_float16_is_refused(precision):
    """Its overflows, which are by design, would end the run as gradients that are not finite."""
    with pytest.raises(InvalidInput, match=f"trainer.precision={precision}: .* choose trainer=fast"):
        check_precision(SimpleNamespace(trainer=SimpleNamespace(precision=precision), task=parts().task))


def test_warnings_stand_on_the_screen_and_in_the_file(tmp_path, capsys):
    assert command("gamma_max=1", f"hydra.run.dir={tmp_path}") == 0
    (sentence,) = [s for s in json.loads((tmp_path / "metrics.json").read_text())["warnings"] if "gamma_max" in s]
    assert sentence in capsys.readouterr().out


def poisoned(task, row):
    """Example ``row`` of the batch gets an infinite x̂_0 at step 2."""
    original, calls = task.model.denoiser.network.forward, []

    def forward(x_t, gamma_t, condition=None):
        calls.append(0)
        y = original(x_t, gamma_t, condition)
        if task.global_step == 2:
            y = y.clone()
            y[row] = math.inf
        return y

    task.model.denoiser.network.forward = forward


@pytest.mark.parametrize("overrides", [(), ("times=loss_moment", "schedule=adaptive")])
def test_a_step_that_is_not_finite_is_kept_and_can_be_run_again(tmp_path, overrides):
    """The line names step, term, example and t; weights and histories are those before the step; so are all draws."""
    config = composed(
        "model.denoiser.network.channels=8", "model.denoiser.network.blocks=1", "data.batch_size=32", *overrides
    )
    data, task = build(config)
    poisoned(task, row=5)
    callbacks = [StopOnNonFinite(str(tmp_path)), CheckpointMetadata(to_plain(config), {})]
    with pytest.raises(InvalidInput, match=r"at step 2: denoising matching of training example \d+ at t = 0\.\d+ \(1 of 32"):
        trainer_for(tmp_path, *callbacks).fit(task, datamodule=data)
    path = tmp_path / "non_finite_step_0000002_part_0.ckpt"
    content = read_content(path)
    assert (content["rank"], content["world_size"], content["global_step"]) == (0, 1, 2)
    assert all(torch.isfinite(value).all() for value in content["state_dict"].values())
    again = replay(path)
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, task.model.state_dict()[name]), name
    assert again.cause == "it is finite when run again"  # the poison was in this process, and is not in the file
    assert torch.isfinite(again.loss.value).all()
    assert torch.equal(replay(path).loss.value, again.loss.value)


@pytest.mark.parametrize("step", [0, 4, 5], ids=["early", "before a validation and a save", "last"])
def test_gradients_that_are_not_finite_reach_no_checkpoint(tmp_path, step):
    """With a finite loss, which alone would say so a step too late, when the weights have been saved and evaluated."""
    data, task = build(
        composed("model.denoiser.network.channels=8", "model.denoiser.network.blocks=1", "data.batch_size=32")
    )

    class PoisonedGradient(Callback):
        def on_after_backward(self, trainer, task):
            if trainer.global_step == step:
                next(task.model.parameters()).grad[...] = math.inf

    last = tmp_path / "last.ckpt"
    callbacks = [PoisonedGradient(), StopOnNonFinite(str(tmp_path)), LastCheckpoint(str(last), every=1)]
    own = CheckpointMetadata({}, {})
    with pytest.raises(InvalidInput, match=f"the gradients of step {step} are not finite, though its loss is"):
        trainer_for(tmp_path, *callbacks, own, enable_checkpointing=True, val_check_interval=5).fit(task, datamodule=data)
    assert (read_content(last)["global_step"] if last.exists() else 0) == step
    assert not list(tmp_path.glob("non_finite_*"))


def test_a_step_with_bad_weights_is_told_again_by_its_file(tmp_path):
    """Here the cause is in the weights, so the file alone reproduces it."""
    config = composed("model.denoiser.network.channels=8", "model.denoiser.network.blocks=1", "data.batch_size=32")
    data, task = build(config)
    for weight in task.model.denoiser.network.last.parameters():
        weight.data.fill_(math.nan)
    with pytest.raises(InvalidInput) as caught:
        trainer_for(tmp_path, StopOnNonFinite(str(tmp_path)), CheckpointMetadata(to_plain(config), {})).fit(
            task, datamodule=data
        )
    again = replay(tmp_path / "non_finite_step_0000000_part_0.ckpt")
    assert again.cause in str(caught.value)
    assert "denoising matching" in again.cause
    assert "32 of 32" in again.cause


def test_the_part_of_a_step_that_is_not_finite_is_run_again_with_its_own_draws(tmp_path, monkeypatch):
    """The network fails in the last 1/128 of all t: for one example of the 4 × 32 that make up a step."""
    config = composed("model.denoiser.network.channels=8", "model.denoiser.network.blocks=1", "data.batch_size=32", "seed=3")
    network = type(build(config).task.model.denoiser.network)
    clean, last = network.forward, config.gamma_max - (config.gamma_max - config.gamma_min) / 128

    def forward(self, x_t, gamma_t, condition=None):
        y = clean(self, x_t, gamma_t, condition)
        y[gamma_t > last] = math.nan
        return y

    monkeypatch.setattr(network, "forward", forward)
    data, task = build(config)
    callbacks = [StopOnNonFinite(str(tmp_path)), CheckpointMetadata(to_plain(config), {})]
    with pytest.raises(InvalidInput, match=r"at t = 0\.99\d+ \(1 of 32") as caught:
        trainer_for(tmp_path, *callbacks, accumulate_grad_batches=4).fit(task, datamodule=data)
    (path,) = tmp_path.glob("non_finite_step_0000000_part_*.ckpt")
    again, part = replay(path), int(path.stem[-1])
    assert part == 3
    assert (again.draws.rank, again.draws.world_size) == (part, 4)
    assert again.cause in str(caught.value)


def test_a_plain_checkpoint_is_no_kept_step(tmp_path):
    torch.save({"vdm": {"format": 1}, "state_dict": {}, "global_step": 0}, tmp_path / "x.ckpt")
    with pytest.raises(InvalidInput, match="is a checkpoint without a kept step"):
        replay(tmp_path / "x.ckpt")
