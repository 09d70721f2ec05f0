"""The commands as a user calls them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support.catalogue import composed
from vdm.cli import dashboard, evaluate, report, sample, train
from vdm.errors import InvalidInput
from vdm.runs.folder import read_estimate

SMALL = (
    "trainer=debug",
    "trainer.accelerator=cpu",
    "model.denoiser.network.channels=8",
    "model.denoiser.network.blocks=1",
    "model.sampling.steps=4",
    "callbacks.sample_grid.every=1",
    "validation.repeats=2",
    "test.repeats=3",
)


@pytest.fixture
def call(monkeypatch, capsys):
    """Call a command in this process: (exit status, standard output, standard error)."""

    def invoke(module, *arguments):
        monkeypatch.setattr(sys, "argv", [f"vdm-{module.__name__.split('.')[-1]}", *map(str, arguments)])
        try:
            module.main()
            status = 0
        except SystemExit as end:
            status = end.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return invoke


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished tiny run."""
    folder = tmp_path_factory.mktemp("run") / "first"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vdm-train", *SMALL, f"hydra.run.dir={folder}"])
        train.main()
    return folder


def test_command_disables_tf32(run):
    """cuDNN's convolutions round to ten bits unless told otherwise."""
    assert not torch.backends.cudnn.allow_tf32


def test_train_writes_all_files(run):
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {
        "config.yaml",
        "metrics.csv",
        "metrics.json",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "pictures/samples.png",
        "pictures/bound.png",
        "pictures/samples_step_0000010.png",
    } <= names
    assert Image.open(run / "pictures/samples.png").size[0] > 400


def test_train_writes_metrics_with_errors_and_provenance(run):
    metrics = json.loads((run / "metrics.json").read_text())
    test = metrics["test"]
    assert set(test) == {"bits_per_dim", "reconstruction", "prior_matching", "denoising_matching"}
    assert all(set(entry) >= {"value", "mc_se", "data_se", "df", "low", "high"} for entry in test.values())
    parts = sum(test[name]["value"] for name in test if name != "bits_per_dim")
    assert parts == pytest.approx(test["bits_per_dim"]["value"])
    assert metrics["provenance"]["data"]["splits"]["test"]["size"] == 297
    assert metrics["provenance"]["weights"] == "ema"


def test_evaluate_takes_a_run_of_any_optimiser(call, tmp_path):
    optimiser = ("optimizer._target_=torch.optim.Adagrad", "~optimizer.betas")
    assert call(train, *SMALL, *optimiser, f"hydra.run.dir={tmp_path}/run")[0] == 0
    best = f"ckpt={tmp_path}/run/checkpoints/best.ckpt"
    assert call(evaluate, best, "accelerator=cpu", f"hydra.run.dir={tmp_path}/again")[0] == 0
    first, again = (json.loads((tmp_path / name / "metrics.json").read_text())["test"] for name in ("run", "again"))
    assert first == again


@pytest.mark.parametrize("more", [[], ["estimator=[]", "relative=[]"]], ids=["", "and nothing else"])
def test_evaluate_repeats_the_number_of_training(run, call, tmp_path, more):
    words = (f"ckpt={run}/checkpoints/best.ckpt", f"hydra.run.dir={tmp_path}", "accelerator=cpu", *more)
    status, out, _ = call(evaluate, *words)
    assert status == 0
    trained, evaluated = (json.loads((folder / "metrics.json").read_text())["test"] for folder in (run, tmp_path))
    assert trained == evaluated
    assert "bits/dim" in out
    assert all(number in out for number in read_estimate(trained["bits_per_dim"]).shown())


def test_evaluate_does_not_depend_on_batch_size(run, call, tmp_path):
    call(evaluate, f"ckpt={run}/checkpoints/best.ckpt", f"hydra.run.dir={tmp_path}", "accelerator=cpu", "batch_size=100")
    trained, evaluated = (json.loads((folder / "metrics.json").read_text())["test"] for folder in (run, tmp_path))
    for name in trained:
        assert trained[name]["value"] == pytest.approx(evaluated[name]["value"], rel=1e-5)


def test_evaluate_uses_raw_weights_with_ema_false(run, call, tmp_path):
    call(evaluate, f"ckpt={run}/checkpoints/best.ckpt", f"hydra.run.dir={tmp_path}", "accelerator=cpu", "ema=false")
    trained, raw = (json.loads((folder / "metrics.json").read_text()) for folder in (run, tmp_path))
    assert raw["provenance"]["weights"] == "raw"
    assert raw["test"]["bits_per_dim"]["value"] != trained["test"]["bits_per_dim"]["value"]


def test_sample_writes_levels_and_images(run, call, tmp_path):
    checkpoint = f"ckpt={run}/checkpoints/best.ckpt"
    few, many = tmp_path / "few", tmp_path / "many"
    assert call(sample, checkpoint, "n=3", "batch_size=2", "accelerator=cpu", f"hydra.run.dir={few}")[0] == 0
    assert call(sample, checkpoint, "n=9", "accelerator=cpu", f"hydra.run.dir={many}")[0] == 0
    x = np.load(many / "samples.npz")["x"]
    assert x.shape == (9, 1, 8, 8)
    assert np.issubdtype(x.dtype, np.integer)
    assert x.min() >= 0
    assert x.max() <= 16
    assert (np.load(few / "samples.npz")["x"] == x[:3]).mean() > 0.98  # the same but for rounding at a level's edge
    assert Image.open(many / "pictures/samples.png").size[0] > 100


BAD = {
    "a misspelt setting": (["optimizer.l=1"], "optimizer.lr"),
    "a misspelt group": (["schedul=cosine"], "schedule"),
    "an unknown option": (["schedule=kosine"], "kosine"),
    "an added setting nobody reads": (["+colour=red"], "colour"),
    "an added argument": (["+trainer.colour=red"], "trainer"),
    "no option of a group": (["schedule=null"], "schedule=null is not an option of schedule: choose one of adaptive"),
    "an old rung": (
        ["model=vae,rung_2_fixed_encoder"],
        "the rungs have a group of their own now: use rung=vae,2_fixed_encoder",
    ),
    "a misspelt setting and no experiment": (["experiment=null", "optimizer.l=1"], "optimizer.lr"),
    "an empty choice": (["schedule=[]"], "schedule=[] is not an option of schedule"),
    "a range of nothing": (["seed=range(3,1)"], "is an empty range"),
    "a nearly known option": (["schedule=cosin"], "schedule has no option 'cosin'; did you mean 'cosine'?"),
    "no optimiser": (["optimizer=null"], "optimizer must be a _target_ with _partial_: true"),
    "no terms": (["~callbacks.bound_terms"], "callbacks.bound_terms measures the bound"),
    "null for the terms": (["callbacks.bound_terms=null"], "callbacks.bound_terms measures the bound"),
    "null for a callback": (["callbacks.profile=null"], "leave it out with ~callbacks.profile"),
    "a monitor of nothing": (["callbacks.checkpoint.monitor=foo"], "choose one of val/bits_per_dim"),
    "no monitor": (["callbacks.checkpoint.monitor=null"], "choose one of val/bits_per_dim"),
    "the worst checkpoint": (["callbacks.checkpoint.mode=max"], "would keep the worst val/bits_per_dim"),
    "weights alone": (["+callbacks.checkpoint.save_weights_only=true"], "callbacks.checkpoint.save_weights_only would"),
    "weights of no validation": (["+callbacks.checkpoint.every_n_train_steps=3"], "would save weights without a validation"),
    "a checkpoint of another kind": (
        ["callbacks.checkpoint._target_=lightning.pytorch.callbacks.ModelCheckpoint"],
        "callbacks.checkpoint must be a vdm.training.callbacks.checkpoint.BestCheckpoint",
    ),
    "several of one name": (["+callbacks.checkpoint.save_top_k=2"], "several under one name"),
    "samples in no steps": (["model.sampling.steps=0"], "model.sampling: steps must be at least 1, got 0"),
    "null for a logger": (["logger.csv=null"], "logger.csv must be a mapping, got None"),
    "a number for a logger": (["logger.csv=5"], "logger.csv must be a mapping, got 5"),
    "more labels than classes": (
        ["experiment=digits_labels", "model.denoiser.network.condition.classes=5"],
        "labels 0 … 4",
    ),
    "no labels": (["experiment=digits_labels", "data.labels=false"], "the data have none: set data.labels=true"),
    "a bound that is no number": (["trainer.gradient_clip_val=nan"], "trainer.gradient_clip_val must be at least 0"),
    "no epoch": (["trainer.max_epochs=0"], "trainer.max_epochs=0 trains nothing"),
    "no device": (["data.device=xyz"], "data: device must be cpu, cuda"),
    "no folder": (["output_dir=5"], "output_dir must be text, got 5"),
    "a file for a folder": ([f"output_dir={__file__}"], "test_commands.py is a file, where a folder is needed"),
    "a folder in a file": ([f"output_dir={__file__}/a"], "test_commands.py is a file, where a folder is needed"),
    "one latent": (["time=discrete", "model.time.timesteps=1"], "timesteps counts the latents"),
    "ends out of order": (["gamma_min=6"], "gamma_min must be finite and below gamma_max"),
    "too large a batch": (["data.batch_size=100000"], "between 1 and the 1350 training examples: set data.batch_size="),
    "wrong levels": (["levels=9"], "integer levels 0 … 8"),
    "a network that does not fit": (["data.event_shape=[64]"], "network=mlp"),
    "no replicates": (["test.repeats=1"], "at least 2"),
    "a part of the test set": (["+trainer.limit_test_batches=1"], "limit_test_batches would evaluate part of a split"),
    "a part of the validation": (["+trainer.limit_val_batches=0.5"], "limit_val_batches would evaluate part of a split"),
    "Lightning's own short run": (["+trainer.fast_dev_run=true"], "evaluate part of a split"),
    "one epoch again and again": (["+trainer.reload_dataloaders_every_n_epochs=1"], "would repeat one epoch's order"),
    "an EMA that is none": (["ema_decay=1.5"], "EMA's decay must be in [0, 1)"),
    "NaN": (["optimizer.lr=1e30", "trainer.gradient_clip_val=null"], "training loss is"),
}


@pytest.mark.parametrize("name", BAD)
def test_train_refuses_bad_input_in_one_line(name, call, tmp_path):
    overrides, message = BAD[name]
    status, out, error = call(train, *SMALL, *overrides, f"hydra.run.dir={tmp_path}")
    assert status == 2
    assert out == "" or name == "NaN"
    (line,) = [line for line in error.splitlines() if line.startswith("vdm-train: ")]
    assert message in line
    assert not any(word in error for word in ("Traceback", "Error executing"))
    assert not (tmp_path / "metrics.json").exists()


def test_train_refuses_a_file_as_run_folder(call, tmp_path):
    (tmp_path / "file").touch()
    status, _, error = call(train, *SMALL, f"hydra.run.dir={tmp_path}/file")
    assert (status, error) == (2, f"vdm-train: {tmp_path}/file is a file, where a folder is needed: choose another folder\n")


def test_train_runs_without_optional_callbacks(call, tmp_path):
    left_out = [f"~callbacks.{name}" for name in composed().callbacks if name != "bound_terms"]
    status, _, error = call(
        train, *(word for word in SMALL if "callbacks" not in word), *left_out, "logger=[]", f"hydra.run.dir={tmp_path}"
    )
    assert status == 0, error
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert "training_cpu_seconds" not in metrics["provenance"]
    assert metrics["test"]["bits_per_dim"]["value"] > 0


def test_train_keeps_result_when_an_image_fails(call, tmp_path, monkeypatch):
    """The exception is shown, and metrics.json is written."""
    monkeypatch.setattr("vdm.data.Digits.picture", lambda *_: 1 / 0)
    words = [*SMALL, "callbacks.sample_grid.every=9", f"hydra.run.dir={tmp_path}"]
    with pytest.raises(ZeroDivisionError):
        call(train, *words)
    assert "ZeroDivisionError" in (tmp_path / "failure.txt").read_text()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["test"]["bits_per_dim"]["value"] > 0
    status, out, _ = call(train, *words, "resume=true")
    assert (status, "is finished" in out) == (0, True)


def test_evaluate_and_sample_refuse_bad_input_in_one_line(run, call, tmp_path):
    (tmp_path / "half.ckpt").write_bytes((run / "checkpoints/best.ckpt").read_bytes()[:5000])
    good = f"ckpt={run}/checkpoints/best.ckpt"
    cases = [
        (evaluate, [], "ckpt is needed"),
        (evaluate, [f"ckpt={tmp_path}/none.ckpt"], "no checkpoint at"),
        (evaluate, [f"ckpt={tmp_path}/half.ckpt"], "truncated"),
        (evaluate, [good, "split=tset"], "there is no split 'tset'"),
        (evaluate, [good, "repeats=1"], "at least 2"),
        (evaluate, [good, "importance=0"], "at least 1"),
        (evaluate, [good, "timesteps=[]"], "timesteps is empty"),
        (evaluate, [good, "target_se=0"], "must be positive"),
        (evaluate, [good, "target_se=inf"], "must be positive and finite"),
        (evaluate, [good, "trust=5"], "trust must be text or a list of text each or null, got 5"),
        (evaluate, [good, "output_dir=null"], "output_dir must be text, got None"),
        (evaluate, [good, f"output_dir={good[5:]}"], "best.ckpt is a file, where a folder is needed"),
        (sample, [good, "output_dir=null"], "output_dir must be text, got None"),
        (sample, [good, "compile=maybe"], "compile must be true or false, got 'maybe'"),
        (report, ["estimators", good, "batches=1"], "batches must be at least 2, got 1"),
        (report, ["estimators", good, "repeats=1"], "repeats must be at least 2, got 1"),
        (report, ["estimators", good, "growth=[9,1]"], "growth[1] must be at least 2, got 1"),
        (report, ["estimators", good, "growth=5"], "growth must be a list of a whole number each or null, got 5"),
        (report, ["lineage", "runs=5"], "runs must be text or null, got 5"),
        (report, ["run"], "run= has no value; usage: vdm-report run=FOLDER"),
        (report, ["run=["], "[ holds no run"),
        (report, ["run=a: {b"], "a: {b holds no run"),
        (evaluate, [good, "kid=0"], "kid must be true or false"),
        (evaluate, [good, "accelerator=foo"], "accelerator=foo is not available on this machine"),
        (evaluate, [good, "accelerator=cpu", "devices=0"], "devices=0"),
        (sample, [good, "accelerator=foo"], "accelerator=foo is not available on this machine"),
        (sample, [good, "n=0"], "at least 1"),
        (sample, [good, "n=1000000000000"], "n must be at most 10,000,000"),
        (sample, [good, "steps=99999999999999999999"], "steps must be at most 10,000,000"),
        (report, ["estimators", good, "split=foo"], "there is no split 'foo' of digits: use one of train, val, test"),
        (report, ["estimators", good, "schedules=null"], "schedules must be a mapping of a mapping each, got None"),
        (report, ["estimators", good, "times.uniform=null"], "times.uniform must be a mapping, got None"),
        (sample, [good, "stps=5"], "steps"),
    ]
    for module, arguments, message in cases:
        folder = [] if arguments and arguments[0].startswith("run") else [f"hydra.run.dir={tmp_path}"]
        status, _, error = call(module, *arguments, *folder)
        assert (status, "Traceback" in error) == (2, False), (arguments, error)
        assert message in error.strip().splitlines()[-1]
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["continuous=true", "examples=0"], "examples must be at least 1, got 0"),
        (["continuous=true", "examples=-5"], "examples must be at least 1, got -5"),
        (["importance=2", "estimators.importance.timesteps=1"], "timesteps counts the latents"),
        (["importance=2", "estimators.importance.timesteps=null"], "needs discrete time"),
        (["flow=true", "dequantisation=none"], "the data are levels, whose density is infinite"),
        (["timesteps=[1000000000000000000000]"], "timesteps must be at most"),
        (["repeats=1000000000000"], "repeats must be at most"),
        (["flow=true", "estimators.flow=null"], "estimators.flow must be a mapping, got None"),
        (["estimators=null"], "estimators must be a mapping of a mapping each, got None"),
        (["relatives=null"], "relatives must be a mapping of a mapping each, got None"),
    ],
)
def test_evaluate_refuses_before_the_first_evaluation(run, call, tmp_path, monkeypatch, words, message):
    monkeypatch.setattr(evaluate, "own_bound", lambda *_: pytest.fail("evaluated"))
    status, _, error = call(evaluate, f"ckpt={run}/checkpoints/best.ckpt", *words, f"hydra.run.dir={tmp_path}")
    assert (status, len(error.splitlines())) == (2, 1)
    assert message in error


def test_train_does_not_overwrite_a_finished_run(run, call):
    before = (run / "metrics.json").read_bytes()
    status, _, error = call(train, *SMALL, f"hydra.run.dir={run}")
    assert status == 2
    assert "earlier run" in error
    assert (run / "metrics.json").read_bytes() == before


@pytest.mark.parametrize("module", [evaluate, sample, report])
def test_commands_refuse_the_folder_of_a_run(module, run, call):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and ".hydra" not in path.parts}
    words = [f"ckpt={run}/checkpoints/best.ckpt", f"hydra.run.dir={run}", "accelerator=cpu"]
    status, _, error = call(module, *(["estimators", *words[:2]] if module is report else words))
    assert status == 2
    assert f"{run} holds an earlier run_id: choose another hydra.run.dir=" in error
    assert before == {path: path.read_bytes() for path in before}


FAILURES = {
    "no room for it": (lambda: InvalidInput("no room for it"), "no room for it", 2),
    "a bug": (lambda: ZeroDivisionError("division"), "stopped: ZeroDivisionError", ZeroDivisionError),
    "the keyboard": (lambda: KeyboardInterrupt(), "stopped: KeyboardInterrupt", 130),
    "SIGTERM": (lambda: os.kill(os.getpid(), signal.SIGTERM), "stopped: SystemExit", 143),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_evaluate_keeps_estimates_before_a_failure(failure, run, call, tmp_path, monkeypatch):
    """metrics.json names the estimates that are missing, whatever ended the command."""
    estimate, (fail, reason, end) = evaluate.run_estimator, FAILURES[failure]

    def failing(name, *rest):
        if name == "timesteps":
            return estimate(name, *rest)
        raise fail() or AssertionError("the signal was not heard")

    monkeypatch.setattr(evaluate, "run_estimator", failing)
    asked = ["timesteps=[3]", "continuous=true", "target_se=1"]
    words = [f"ckpt={run}/checkpoints/best.ckpt", *asked, "examples=4", "accelerator=cpu", f"hydra.run.dir={tmp_path}"]
    if isinstance(end, int):
        assert call(evaluate, *words)[0] == end
    else:
        with pytest.raises(end):
            call(evaluate, *words)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["without"] == {"continuous": reason, "target_se": "not reached"}
    assert len(metrics["estimates"]) == 1
    assert metrics["test"]["bits_per_dim"]["value"] > 0


def test_multirun_writes_one_result_per_job(call, tmp_path):
    status, _, _ = call(train, "-m", *SMALL, "schedule=linear,cosine", f"hydra.sweep.dir={tmp_path}")
    assert status == 0
    values = {
        json.loads((tmp_path / job / "metrics.json").read_text())["test"]["bits_per_dim"]["value"] for job in ("0", "1")
    }
    assert len(values) == 2


@pytest.mark.slow
def test_installed_wheel_runs_from_another_folder(tmp_path):
    """The configs travel inside the wheel."""
    root = Path(__file__).parents[2]
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "build", "--wheel", "--out-dir", tmp_path / "dist", root], check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    subprocess.run([*uv, "pip", "install", "--no-deps", "--target", site, wheel], check=True, capture_output=True)
    code = "import vdm, sys; from vdm.cli.train import main; print(vdm.__file__); main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *SMALL],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert str(site) in done.stdout
    assert list(tmp_path.glob("logs/train/runs/*/metrics.json"))


def test_evaluate_prints_every_estimator_in_one_table(run, call, tmp_path):
    """vdm-evaluate with everything asked for, on two examples and few latents."""
    cheap = (
        "timesteps=[3,9]",
        "continuous=true",
        "importance=2",
        "flow=true",
        "target_se=0.5",
        "examples=2",
        "estimators.importance.timesteps=5",
        "estimators.importance.examples=2",
        "estimators.flow.examples=2",
        "estimators.flow.tolerance=1e-2",
        "repeats=2",
    )
    checkpoint = f"ckpt={run}/checkpoints/best.ckpt"
    status, out, error = call(evaluate, checkpoint, *cheap, "accelerator=cpu", f"hydra.run.dir={tmp_path}")
    assert status == 0, error
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert len(metrics["estimates"]) >= 6
    for name, entry in metrics["estimates"].items():
        assert {"value", "mc_se", "data_se"} <= set(entry["bits_per_dim"]), name
        assert {"examples", "draws", "network_calls"} <= set(entry), name
    assert {"weights", "precision", "seed", "data"} <= set(metrics["provenance"])
    assert "mc_se" in out


@pytest.mark.parametrize("growth", ["[3,5]", "null"])
def test_report_writes_the_variance_study(run, call, tmp_path, growth):
    small = ("examples=2", "timesteps=4", "repeats=2", "batches=3", f"growth={growth}")
    checkpoint = f"ckpt={run}/checkpoints/best.ckpt"
    status, out, error = call(report, "estimators", checkpoint, *small, f"hydra.run.dir={tmp_path}")
    assert status == 0, error
    measured = json.loads((tmp_path / "metrics.json").read_text())["estimators"]
    assert len(measured["one_t"]) == 3 * 2 * 3  # schedules × forms × where t is drawn
    assert (tmp_path / "pictures/per_step.png").exists()
    assert (tmp_path / "pictures/growth.png").exists() == bool(measured["growth"]) == (growth != "null")
    assert "consistency" in out


def test_report_without_subject_lists_the_subjects(call):
    for arguments in ((), ("estimator",)):
        status, _, error = call(report, *arguments)
        assert status == 2
        assert "estimators ckpt=…, lineage, run=FOLDER, or sweep=FOLDER" in error


@pytest.mark.parametrize(
    ("module", "arguments"),
    [(report, ["--help"]), (report, ["run", "-h"]), (report, ["run=a", "--help"]), (dashboard, ["--help"])],
)
def test_commands_without_config_print_usage(module, arguments, call):
    status, out, error = call(module, *arguments)
    assert (status, error) == (0, "")
    assert "sweep=FOLDER" in out
