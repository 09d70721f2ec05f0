"""W&B and TensorBoard log the same metrics as metrics.csv, also in a resumed run."""

import json
import math
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import wandb
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from support import training_runs
from support.training_runs import MOMENTS, SMALL, kill, stopped_run, vdm_train
from vdm.cli import dashboard, train
from vdm.errors import InvalidInput
from vdm.runs.folder import RunIdentity
from vdm.runs.provenance import code_version
from vdm.runs.tables import read_rows
from vdm.training.loggers.tensorboard import TensorBoardLogger
from vdm.training.loggers.wandb import WANDB_STEP, WandbLogger, why_offline

IMAGE = Image.new("RGB", (8, 6), (0, 128, 255))
BOTH = ("logger=[wandb,tensorboard]", "logger.wandb.offline=true", "callbacks.sample_grid.every=2")


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    """Hide the machine's W&B account, and reset W&B's global state."""
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    with suppress(ConnectionError):  # the service of an earlier test may be gone
        wandb.teardown()
    yield
    wandb.teardown()


def started(logger, identity):
    logger.start(identity)
    return logger


def wandb_logger(folder, identity=None, offline=True, patience=1.0):
    return started(
        WandbLogger("vdm", str(folder), offline, ["val/loss"], patience),
        identity or RunIdentity("one", "a run", "a sweep", None),
    )


def read_wandb(folder, *options):
    """Read the only .wandb file below ``folder`` with W&B's own reader."""
    command = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", *options, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout) if "--summary" in options else [json.loads(line) for line in done.stdout.splitlines()]


def history(found):
    """Return the logged rows of an offline run, without W&B's own columns."""
    rows = [record["history"]["item"] for record in found if record["type"] == "history"]
    return [{name: value for name, value in row.items() if not name.startswith("_")} for row in rows]


def scalars(folder):
    """Return all (step, value) pairs of the event files by name."""
    events = EventAccumulator(str(folder)).Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_wandb_offline_run_reads_back_complete(tmp_path):
    run = wandb_logger(tmp_path)
    run.log_hyperparams(
        {"model": {"width": 3}, "output_dir": str(tmp_path), "callbacks": [{"folder": f"{tmp_path}/pictures"}]}
    )
    for step, loss in ((1, 0.5), (2, 0.25), (3, 0.75)):
        run.log_metrics({"val/loss": loss, "val/other": loss}, step)
        run.log_metrics({"train/loss": 2 * loss}, step)
    run.log_image("samples", IMAGE, 3)
    wandb.finish()
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    found = read_wandb(folder)
    rows = history(found)
    assert [row[WANDB_STEP] for row in rows] == [1, 2, 3]
    assert [row["val/loss"] for row in rows if "val/loss" in row] == [0.5, 0.25, 0.75]
    assert [row["train/loss"] for row in rows if "train/loss" in row] == [1.0, 0.5, 1.5]
    assert Image.open(folder / "files" / rows[-1]["samples.path"]).size == IMAGE.size
    whole = read_wandb(folder, "--summary")
    assert (whole["run_id"], whole["name"], whole["exit_code"]) == ("one", "a run", 0)
    assert whole["config"] == {"model": {"width": 3}, "callbacks": [{"folder": "…/pictures"}]}
    assert whole["summary"]["val/loss"] == {"min": 0.25}
    assert whole["summary"]["val/other"] == 0.75
    (started,) = (record["run"] for record in found if record["type"] == "run")
    assert (started["run_group"], started["project"]) == ("a sweep", "vdm")
    axes = {record["metric"].get("step_metric") for record in found if record["type"] == "metric"}
    assert axes == {None, WANDB_STEP}


def test_wandb_resumed_run_has_its_id_and_resumed_at(tmp_path):
    leg = RunIdentity("one", "a run", None, resumed_at=40)
    run = wandb_logger(tmp_path, leg)
    run.log_metrics({"loss": 1.0}, 41)
    wandb.finish()
    (folder,) = (tmp_path / "wandb").glob("offline-run-*-one")
    assert history(read_wandb(folder)) == [{"resumed_at": 40, WANDB_STEP: 40}, {"loss": 1.0, WANDB_STEP: 41}]


def test_wandb_logs_no_row_twice(tmp_path, monkeypatch):
    """A killed online run has rows after its last checkpoint; the first run object stands in for the server."""
    rows = [(step, name) for step in (1, 2, 3, 4, 5) for name in ("train/loss", "val/loss")]
    killed = rows.index((4, "val/loss"))
    first = wandb_logger(tmp_path)
    for step, name in rows[:killed]:
        first.log_metrics({name: step}, step)
    monkeypatch.setattr(wandb, "init", lambda **_: first.experiment)
    second = wandb_logger(tmp_path, RunIdentity("one", "a run", "a sweep", resumed_at=2))
    for step, name in rows[rows.index((3, "train/loss")) :]:
        second.log_metrics({name: step}, step)
    wandb.finish()
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    found = history(read_wandb(folder))
    assert [(row[WANDB_STEP], name) for row in found for name in row if name.endswith("loss")] == rows
    assert [(row["resumed_at"], row[WANDB_STEP]) for row in found if "resumed_at" in row] == [(2, 4)]


def test_wandb_logs_the_test_of_a_run_stopped_at_its_end(tmp_path, monkeypatch):
    first = wandb_logger(tmp_path)
    first.log_metrics({"val/loss": 1}, 8)
    monkeypatch.setattr(wandb, "init", lambda **_: first.experiment)
    second = wandb_logger(tmp_path, RunIdentity("one", "a run", "a sweep", resumed_at=8))
    second.log_metrics({"test/loss": 2}, 8)
    wandb.finish()
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert history(read_wandb(folder)) == [{"val/loss": 1, "resumed_at": 8, "test/loss": 2, WANDB_STEP: 8}]


def test_wandb_options_pass_through(tmp_path):
    options = {"entity": "team", "tags": ["a", "b"], "notes": "a note", "job_type": "train"}
    logger = WandbLogger("vdm", str(tmp_path), True, [], 1.0, **options)
    started(logger, RunIdentity("one", None, None, None)).log_metrics({"loss": 1.0}, 1)
    run = logger.experiment
    passed = (run.entity, run.tags, run.notes, run.job_type)
    wandb.finish()
    assert passed == ("team", ("a", "b"), "a note", "train")


@pytest.mark.parametrize("option", ["entitty", "id"])
def test_wandb_unknown_option_is_refused(tmp_path, option):
    with pytest.raises(InvalidInput, match=f"logger.wandb.{option} is not an option"):
        WandbLogger("vdm", str(tmp_path), True, [], 1.0, **{option: "x"})


def local_server(accept):
    """Open a local port that accepts connections without answering, or that refuses them."""
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    if accept:
        server.listen(8)
    return server


def test_wandb_is_offline_without_a_key_or_an_answer(tmp_path, monkeypatch, capfd):
    assert why_offline(1.0) == "no key: run `wandb login`, or set WANDB_API_KEY"
    for accept in (True, False):
        server = local_server(accept)
        wandb.teardown()
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        start = time.monotonic()
        assert "does not answer" in why_offline(1.0)
        assert time.monotonic() - start < 5
        server.close()
    wandb_logger(tmp_path, offline=False).log_metrics({"loss": 1.0}, 1)
    wandb.finish()
    lines = [line for line in capfd.readouterr().err.splitlines() if "offline" in line]
    assert len(lines) == 1
    assert f"wandb sync {tmp_path}/wandb/offline-run-*" in lines[0]
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 1
    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb.teardown()
    assert why_offline(1.0) == "WANDB_MODE=offline"


def test_event_files_have_every_step_once_after_a_resume(tmp_path):
    """The first run saved at step 2 and was killed at step 4, with half an event in its file."""
    first = started(TensorBoardLogger(str(tmp_path)), RunIdentity("one", None, None, None))
    for step in (1, 2, 3, 4):
        first.log_metrics({"train/loss": 1 / step, "val/loss": math.nan if step == 1 else step}, step)
        first.log_image("samples", IMAGE, step)
    first.log_metrics({"test/loss": 7.0}, 2)
    (path,) = tmp_path.glob("events.*")
    with path.open("ab") as file:
        file.write(b"\x18\x00\x00\x00half")
    second = started(TensorBoardLogger(str(tmp_path)), RunIdentity("one", None, None, 2))
    for step in (3, 4, 5):
        second.log_metrics({"train/loss": 1 / step}, step)
    second.log_metrics({"test/loss": 6.0}, 5)
    second.finalize("success")
    found = scalars(tmp_path)
    assert [step for step, _ in found["train/loss"]] == [1, 2, 3, 4, 5]
    assert [value for _, value in found["train/loss"]] == pytest.approx([1 / step for step in range(1, 6)])
    assert [step for step, _ in found["val/loss"]] == [1, 2]
    assert found["test/loss"] == [(5, 6.0)]
    assert [picture.step for picture in EventAccumulator(str(tmp_path)).Reload().Images("samples")] == [1, 2]


def in_csv(folder):
    """Return all (name, step, value) of a run's metrics.csv."""
    names, rows = read_rows(folder / "metrics.csv")
    return {(name, int(row["step"]), float(row[name])) for name in names if name != "step" for row in rows if row[name]}


def in_event_files(folder):
    """Return all (name, step, value) of a run's event files, which store float32."""
    return {(name, step, value) for name, series in scalars(folder / "tensorboard").items() for step, value in series}


def in_wandb(rows):
    """Return all (name, step, value) of W&B's rows, without images."""
    images = {name.partition(".")[0] for row in rows for name in row if name.endswith("._type")}
    return {
        (name, row[WANDB_STEP], value)
        for row in rows
        for name, value in row.items()
        if name != WANDB_STEP and name.partition(".")[0] not in images
    }


def rounded(found):
    return {(name, step, float(np.float32(value))) for name, step, value in found}


@pytest.mark.slow
def test_sweep_logs_one_wandb_group_with_a_dashboard(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        small = [*SMALL, "trainer.max_steps=8", "trainer.val_check_interval=4", *BOTH]
        patch.setattr(sys, "argv", ["vdm-train", "-m", *small, "schedule=linear,cosine", f"hydra.sweep.dir={tmp_path}/ours"])
        train.main()
    started, logged = [], set()
    for job, schedule in (("0", "linear"), ("1", "cosine")):
        folder = tmp_path / "ours" / job
        (wandb_folder,) = (folder / "wandb").glob("offline-run-*")
        found = read_wandb(wandb_folder)
        rows = history(found)
        assert in_wandb(rows) == in_csv(folder)
        assert rounded(in_csv(folder)) == in_event_files(folder)
        assert EventAccumulator(str(folder / "tensorboard")).Reload().Images("pictures/samples")
        started += [record["run"] for record in found if record["type"] == "run"]
        config = read_wandb(wandb_folder, "--summary")["config"]
        assert (config["choices"]["schedule"], config["provenance"]["vdm"]) == (schedule, code_version())
        assert config["optimizer"]["lr"] == 2e-3
        logged |= {name.removesuffix("._type") for row in rows for name in row}
    assert [run["run_group"] for run in started] == ["ours", "ours"]
    assert len({run["run_id"] for run in started}) == 2
    assert [run["display_name"] for run in started] == ["0", "1"]

    monkeypatch.setattr(sys, "argv", ["vdm-dashboard", f"sweep={tmp_path}/ours"])
    dashboard.main()
    assert "W&B is offline (no key" in capsys.readouterr().out
    written = json.loads((tmp_path / "ours/dashboard.json").read_text())["section"]
    sections = {section["name"]: section["panels"] for section in written["panelBankConfig"]["sections"]}
    keys = [key for panels in sections.values() for panel in panels for key in keys_of(panel)]
    assert set(keys) <= logged
    assert {"val/bits_per_dim", "test/denoising_matching", "pictures/samples"} <= set(keys)
    assert len(keys) == len(set(keys))
    assert {"Bound, by term", "Samples", "Training"} <= set(sections)
    (runs,) = written["runSets"]
    assert [(f["key"]["name"], f["value"]) for f in runs["filters"]["filters"]] == [("group", "ours")]
    assert [key["name"] for key in runs["grouping"]] == ["choices.value.schedule"]


def keys_of(panel):
    config = panel["config"]
    return [*config.get("metrics", []), *config.get("mediaKeys", [])]


@pytest.mark.slow
def test_killed_run_resumes_its_wandb_run_and_event_files(tmp_path, monkeypatch):
    """Killed after step 13, saved after step 10."""
    folder = tmp_path / "run"
    monkeypatch.setattr(training_runs, "SMALL", (*SMALL, *BOTH))
    stopped_run(folder, monkeypatch, 13, MOMENTS[0], kill)
    assert vdm_train(folder, "resume=true") == 0
    first, second = (read_wandb(leg) for leg in sorted((folder / "wandb").glob("offline-run-*")))
    run_ids = {record["run"]["run_id"] for leg in (first, second) for record in leg if record["type"] == "run"}
    assert run_ids == {(folder / "run_id").read_text()}
    codes = [record["exit"].get("exit_code", 0) for leg in (first, second) for record in leg if record["type"] == "exit"]
    assert codes == [1, 0]
    earlier, later = in_wandb(history(first)), in_wandb(history(second))
    assert ("resumed_at", 10, 10) in later
    assert earlier | later - {("resumed_at", 10, 10)} == in_csv(folder)
    assert {found for found in earlier if found[1] > 10} <= later
    assert rounded(in_csv(folder)) == in_event_files(folder)
    steps = [step for _, step, _ in in_csv(folder)]
    assert sum(len(series) for series in scalars(folder / "tensorboard").values()) == len(steps)


def test_run_name_is_the_overrides_or_the_folder(tmp_path):
    assert train.run_name("schedule-cosine_seed-1", tmp_path / "3") == "schedule-cosine_seed-1"
    assert train.run_name("", tmp_path / "3") == "3"
    assert train.run_name("a" * 129, tmp_path / "3") == "3"
