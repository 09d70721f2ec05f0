"""A resumed run equals the uninterrupted one, and foreign or damaged run folders are refused."""

import csv
import json
import os
import random
import shutil
import signal

import pytest
import torch
from omegaconf import OmegaConf

from support import training_runs
from support.training_runs import MOMENTS, SMALL, STEPS, kill, logged, stopped_run, vdm_train
from vdm.evaluation import BoundEvaluation, BoundSummary
from vdm.reports import console
from vdm.runs.folder import RunFolder, as_metrics, read_estimate
from vdm.runs.load import load_run
from vdm.runs.tables import read_rows, truncate_after
from vdm.training.loggers.csv import CsvLogger


def assert_same_run(one, other):
    """Compare weights, EMA, optimiser state, data order, logs and results."""
    for name in ("last.ckpt", "best.ckpt"):
        a, b = (torch.load(folder / "checkpoints" / name, weights_only=True) for folder in (one, other))
        assert a["global_step"] == b["global_step"]
        assert a["state_dict"].keys() == b["state_dict"].keys()
        assert all(torch.equal(a["state_dict"][key], b["state_dict"][key]) for key in a["state_dict"])
        states = [x["optimizer_states"][0]["state"] for x in (a, b)]
        assert all(torch.equal(states[0][i]["exp_avg_sq"], states[1][i]["exp_avg_sq"]) for i in states[0])
        assert a["loops"]["fit_loop"]["state_dict"] == b["loops"]["fit_loop"]["state_dict"]
    assert logged(one) == logged(other)
    for name in ("profile.csv", "schedule.csv"):
        assert (one / name).read_text() == (other / name).read_text()
    a, b = (json.loads((folder / "metrics.json").read_text()) for folder in (one, other))
    assert (a["test"], a["val"]) == (b["test"], b["val"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert vdm_train(folder) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("step", "moment"), [(3, MOMENTS[0]), (13, MOMENTS[2]), (14, MOMENTS[1])])
def test_killed_run_resumes_bit_for_bit(whole, tmp_path, monkeypatch, step, moment):
    """Killed before the first save, in the middle of a step, and in a validation."""
    folder = tmp_path / "run"
    assert stopped_run(folder, monkeypatch, step, moment, kill) is None
    assert not (folder / "metrics.json").exists()
    run_id = (folder / "run_id").read_text()
    assert vdm_train(folder, "resume=true") == 0
    assert (folder / "run_id").read_text() == run_id
    assert_same_run(whole, folder)


@pytest.mark.parametrize(
    ("number", "status", "step"),
    [
        (signal.SIGTERM, 143, 8),
        pytest.param(signal.SIGTERM, 143, STEPS - 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, 21, marks=pytest.mark.slow),
    ],
)
def test_signalled_run_saves_exits_and_resumes(whole, tmp_path, monkeypatch, number, status, step):
    """A signal in the middle of a step is saved at the end of that step."""
    folder = tmp_path / "run"
    before = signal.getsignal(number)

    def send():
        os.kill(os.getpid(), number)

    assert stopped_run(folder, monkeypatch, step, "on_before_optimizer_step", send) == status
    assert signal.getsignal(number) == before
    assert torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["global_step"] == step + 1
    assert vdm_train(folder, "resume=true") == 0
    assert_same_run(whole, folder)


@pytest.mark.slow
def test_sigterm_in_a_slurm_job_saves_and_trains_on(whole, tmp_path, monkeypatch, capsys):
    for name, value in {"NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_ID": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    folder = tmp_path / "run"
    assert stopped_run(folder, monkeypatch, 8, "on_before_optimizer_step", lambda: signal.raise_signal(signal.SIGTERM)) == 0
    assert f"SIGTERM at step 9: saved {folder}/checkpoints/last.ckpt" in capsys.readouterr().err
    assert_same_run(whole, folder)


@pytest.mark.slow
def test_best_is_saved_when_an_epoch_ends_with_a_validation(tmp_path, monkeypatch):
    """Lightning would save the best one after the epoch ends, when a signal has already ended the run."""
    folder, settings = tmp_path / "run", ("trainer.val_check_interval=1.0", "trainer.check_val_every_n_epoch=1")
    with monkeypatch.context() as patch:
        patch.setattr(training_runs, "SMALL", (*SMALL, *settings, "data.batch_size=135"))
        status = stopped_run(folder, monkeypatch, 20, "on_validation_end", lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert status == 143
    state = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["callbacks"]
    best = next(value["best_model_score"] for key, value in state.items() if "BestCheckpoint" in key)
    measured = [float(row["val/bits_per_dim"]) for row in logged(folder) if row["val/bits_per_dim"]]
    assert len(measured) == 2
    assert best.item() == pytest.approx(min(measured)) == pytest.approx(measured[1])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_repeatedly_killed_run_resumes_bit_for_bit(whole, tmp_path, monkeypatch, seed):
    draw = random.Random(seed)
    folder = tmp_path / "run"
    step = draw.randrange(1, STEPS - 1)
    stopped_run(folder, monkeypatch, step, draw.choice((MOMENTS[0], MOMENTS[2])), kill)
    with monkeypatch.context() as patch:
        patch.setattr(training_runs, "SMALL", (*SMALL, "resume=true"))
        later = draw.randrange(step, STEPS)
        what = draw.choice((kill, lambda: os.kill(os.getpid(), signal.SIGTERM)))
        stopped_run(folder, monkeypatch, later, draw.choice((MOMENTS[0], MOMENTS[2])), what)
    assert vdm_train(folder, "resume=true") == 0
    assert_same_run(whole, folder)


def test_finished_run_is_not_run_again(whole, capsys):
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    assert vdm_train(whole, "resume=true") == 0
    metrics, out = json.loads((whole / "metrics.json").read_text()), capsys.readouterr().out
    for stage, name in (("test", "test"), ("val", "validation")):
        assert console.bound_sentence(name, read_estimate(metrics[stage]["bits_per_dim"])) in out
    assert all(
        path.read_bytes() == content for path, content in before.items() if path.suffix in (".ckpt", ".csv", ".json", ".png")
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["resume=true", "schedule=cosine"], "model.schedule"),
        (["resume=true", "seed=5"], "data.seed=0, not 5"),
        (["resume=true", "trainer.max_steps=9"], "trainer.max_steps=30, not 9"),
        ([], "earlier run's result"),
    ],
)
def test_resume_refuses_other_settings(whole, capsys, overrides, message):
    assert vdm_train(whole, *overrides) == 2
    assert message in capsys.readouterr().err


def test_resume_refuses_other_data(whole, tmp_path, capsys):
    """Other splits could put training examples into the test set."""
    (tmp_path / "checkpoints").mkdir()
    for name in ("config.yaml", "run_id", "checkpoints/last.ckpt"):
        shutil.copy(whole / name, tmp_path / name)
    content = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    content["vdm"]["provenance"]["data"]["splits"]["test"]["sha256"] = 16 * "0"
    torch.save(content, tmp_path / "checkpoints/last.ckpt")
    assert vdm_train(tmp_path, "resume=true") == 2
    assert "last.ckpt was trained on other data (test differ): put those back" in capsys.readouterr().err


@pytest.mark.parametrize("left", ["metrics.json", "checkpoints/last.ckpt"])
@pytest.mark.parametrize("known", [[], ["config.yaml"], ["run_id"]])
def test_resume_refuses_results_without_their_run(whole, tmp_path, capsys, left, known):
    """Results of vdm-evaluate, say, would be taken for this run's."""
    (tmp_path / "checkpoints").mkdir()
    for name in (left, *known):
        shutil.copy(whole / name, tmp_path / name)
    assert vdm_train(tmp_path, "resume=true") == 2
    assert f"{left} lies without the config.yaml and run_id" in capsys.readouterr().err
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize("known", [[], ["config.yaml"], ["config.yaml", "run_id"]])
def test_resume_accepts_a_folder_without_a_checkpoint(whole, tmp_path, known):
    for name in known:
        shutil.copy(whole / name, tmp_path / name)
    RunFolder(tmp_path).check(OmegaConf.load(whole / "config.yaml"), resume=True)


def test_resume_refuses_a_checkpoint_of_other_settings(whole, tmp_path, capsys):
    """config.yaml matches, the checkpoint's seed does not. Settings that may change on resume may differ here, too."""
    (tmp_path / "checkpoints").mkdir()
    for name in ("config.yaml", "run_id"):
        shutil.copy(whole / name, tmp_path / name)
    content = torch.load(whole / "checkpoints/last.ckpt", weights_only=True)
    content["vdm"]["config"]["trainer"]["devices"] = 7
    content["vdm"]["config"]["seed"] = 9
    torch.save(content, tmp_path / "checkpoints/last.ckpt")
    assert vdm_train(tmp_path, "resume=true") == 2
    assert "last.ckpt holds a run with seed=9, not 0" in capsys.readouterr().err


def test_last_step_is_saved_and_tested_without_a_validation(tmp_path):
    """One epoch of 21 steps without a validation, a save every 8 steps."""
    epoch = ("trainer.max_steps=-1", "trainer.max_epochs=1", "trainer.val_check_interval=1000", "callbacks.last.every=8")
    assert vdm_train(tmp_path, *epoch) == 0
    facts = json.loads((tmp_path / "metrics.json").read_text())["provenance"]
    assert (facts["steps"], facts["step"], facts["checkpoint"]) == (21, 21, "last.ckpt")
    assert torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 21


@pytest.mark.parametrize(
    "checkpoint", ["+callbacks.checkpoint.save_top_k=1", "+callbacks.checkpoint.save_top_k=0", "~callbacks.checkpoint"]
)
def test_validation_and_test_are_of_the_same_weights(tmp_path, checkpoint):
    """Either of the best weights, from an earlier validation, or of the last ones, which no validation followed."""
    short = ("trainer.max_steps=7", "trainer.val_check_interval=2", "optimizer.lr=1", "learning_rate=constant")
    assert vdm_train(tmp_path, checkpoint, *short) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    facts = metrics["provenance"]
    assert facts["step"] < 6 if facts["checkpoint"] == "best.ckpt" else facts["step"] == 7
    run = load_run(str(tmp_path / "checkpoints" / facts["checkpoint"]), ema=True)
    validation = BoundEvaluation(2, seed=1)
    summary = BoundSummary(2)
    for batch in run.data.ordered("val"):
        summary.update(validation(run.model, batch))
    assert metrics["val"] == as_metrics(summary.compute())
    assert RunFolder(tmp_path).result()["val"].value == metrics["val"]["bits_per_dim"]["value"]


def test_accumulated_gradients_log_whole_steps(tmp_path):
    """The sanity check is not logged as a validation."""
    few = ("trainer.max_steps=8", "trainer.val_check_interval=24", "trainer.num_sanity_val_steps=1")
    assert vdm_train(tmp_path, "+trainer.accumulate_grad_batches=3", *few) == 0
    rows = read_rows(tmp_path / "metrics.csv")[1]
    assert [row["step"] for row in rows if row["train/bits_per_dim"]] == ["4", "8"]
    assert [row["step"] for row in rows if row["val/bits_per_dim"]] == ["8"]


@pytest.mark.slow
def test_run_ended_by_its_budget_saves_its_last_step(tmp_path):
    assert vdm_train(tmp_path, "callbacks.cpu_time.seconds=0.5", "callbacks.last.every=1000") == 0
    steps = json.loads((tmp_path / "metrics.json").read_text())["provenance"]["steps"]
    assert 0 < steps < STEPS
    assert torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["global_step"] == steps


@pytest.mark.slow
def test_foreign_best_checkpoint_is_not_tested(whole, tmp_path):
    """A best.ckpt without a last.ckpt, in an unused folder and in that of a run killed early."""
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(whole / "checkpoints/best.ckpt", tmp_path / "checkpoints")
    short = ("seed=1", "trainer.max_steps=3", "trainer.val_check_interval=999")
    assert vdm_train(tmp_path, *short) == 2
    assert vdm_train(tmp_path, *short, "resume=true") == 2
    (tmp_path / "checkpoints/best.ckpt").unlink()
    assert vdm_train(tmp_path, *short) == 0
    for name in ("metrics.json", "checkpoints/last.ckpt"):
        (tmp_path / name).unlink()
    shutil.copy(whole / "checkpoints/best.ckpt", tmp_path / "checkpoints")
    assert vdm_train(tmp_path, *short, "resume=true") == 0
    trained, foreign = (json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path, whole))
    assert trained["provenance"]["checkpoint"] == "last.ckpt"
    assert trained["test"] != foreign["test"]


def test_metrics_file_has_every_step_once(whole):
    with (whole / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows if row["train/bits_per_dim"]] == list(range(4, STEPS + 1, 4))
    assert [int(row["step"]) for row in rows if row["val/bits_per_dim"]] == list(range(7, STEPS + 1, 7))
    assert [int(row["step"]) for row in rows if row["test/bits_per_dim"]] == [STEPS]


def test_csv_logger_adds_columns_and_survives_a_cut_row(tmp_path):
    """New columns, a row cut by a crash, and truncation on resume."""
    path = tmp_path / "metrics.csv"
    first = CsvLogger(path)
    first.log_metrics({"a": 0.1}, step=1)
    first.log_metrics({"a": 0.2, "val/b": 1.0}, step=2)
    first.log_metrics({"a": 0.3}, step=3)
    first.log_metrics({"test/c": 5.0}, step=2)
    assert read_rows(path)[0] == ["step", "a", "val/b", "test/c"]
    with path.open("a") as file:
        file.write("4,0.")
    assert [row["step"] for row in read_rows(path)[1]] == ["1", "2", "3", "2"]
    truncate_after(path, 2)
    CsvLogger(path).log_metrics({"a": 0.25}, step=3)
    assert [(row["step"], row["a"]) for row in read_rows(path)[1]] == [("1", "0.1"), ("2", "0.2"), ("3", "0.25")]
    truncate_after(tmp_path / "none.csv", 2)
    assert not (tmp_path / "none.csv").exists()
