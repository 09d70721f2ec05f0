"""W&B and TensorBoard have what metrics.csv has, under the same names, whether or not the run was stopped."""

import json
import math
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import wandb
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from support import training_runs
from support.training_runs import MOMENTS, SMALL, kill, stopped_run, vdm_train
from vdm.cli import dashboard, train
from vdm.reports import wandb_workspace
from vdm.runs.folder import RunIdentity
from vdm.runs.provenance import code_version
from vdm.runs.tables import read_rows
from vdm.training.loggers.tensorboard import TensorBoardLogger
from vdm.training.loggers.wandb import STEP, WandbLogger, why_offline

PICTURE = Image.new("RGB", (8, 6), (0, 128, 255))
BOTH = ("logger=[wandb,tensorboard]", "logger.wandb.offline=true", "callbacks.sample_grid.every=2")


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    """Nothing of this machine's account, and W&B as it is when a process starts."""
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    wandb.teardown()
    yield
    wandb.teardown()


def started(logger, identity):
    logger.start(identity)
    return logger


def wandb_run(folder, identity=None, offline=True, patience=1.0):
    return started(
        WandbLogger("vdm", str(folder), offline, ["val/loss"], patience),
        identity or RunIdentity("one", "a run", "a sweep", None),
    )


def records(folder, *options):
    """What W&B's own reader says of the only .wandb file below a folder."""
    command = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", *options, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout) if "--summary" in options else [json.loads(line) for line in done.stdout.splitlines()]


def history(found):
    """The rows among an offline run's records, without W&B's own columns."""
    rows = [record["history"]["item"] for record in found if record["type"] == "history"]
    return [{name: value for name, value in row.items() if not name.startswith("_")} for row in rows]


def scalars(folder):
    """Every (step, value) by name."""
    events = EventAccumulator(str(folder)).Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_an_offline_run_is_read_back_whole(tmp_path):
    run = wandb_run(tmp_path)
    run.log_hyperparams({"model": {"width": 3}})
    for step, loss in ((1, 0.5), (2, 0.25), (3, 0.75)):
        run.log_metrics({"val/loss": loss, "val/other": loss}, step)
        run.log_metrics({"train/loss": 2 * loss}, step)
    run.log_image("samples", PICTURE, 3)
    wandb.finish()
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    found = records(folder)
    rows = history(found)
    assert [row[STEP] for row in rows] == [1, 1, 2, 2, 3, 3, 3]
    assert [row["val/loss"] for row in rows if "val/loss" in row] == [0.5, 0.25, 0.75]
    assert [row["train/loss"] for row in rows if "train/loss" in row] == [1.0, 0.5, 1.5]
    assert Image.open(folder / "files" / rows[-1]["samples.path"]).size == PICTURE.size
    whole = records(folder, "--summary")
    assert (whole["run_id"], whole["name"], whole["exit_code"]) == ("one", "a run", 0)
    assert whole["config"] == {"model": {"width": 3}}
    assert whole["summary"]["val/loss"] == {"min": 0.25}
    assert whole["summary"]["val/other"] == 0.75
    (began,) = (record["run"] for record in found if record["type"] == "run")
    assert (began["run_group"], began["project"]) == ("a sweep", "vdm")
    axes = {record["metric"].get("step_metric") for record in found if record["type"] == "metric"}
    assert axes == {None, STEP}


def test_a_resumed_run_keeps_its_id_and_shows_where_it_goes_on(tmp_path):
    leg = RunIdentity("one", "a run", None, resumed_at=40)
    run = wandb_run(tmp_path, leg)
    run.log_metrics({"loss": 1.0}, 41)
    wandb.finish()
    (folder,) = (tmp_path / "wandb").glob("offline-run-*-one")
    assert history(records(folder)) == [{"resumed_at": 40, STEP: 40}, {"loss": 1.0, STEP: 41}]


def test_a_row_that_the_run_has_is_not_logged_twice(tmp_path, monkeypatch):
    """An online run that was killed knows rows after its last save; the first leg's run stands in for what a server has."""
    rows = [(step, name) for step in (1, 2, 3, 4, 5) for name in ("train/loss", "val/loss")]
    killed = rows.index((4, "val/loss"))
    first = wandb_run(tmp_path)
    for step, name in rows[:killed]:
        first.log_metrics({name: step}, step)
    monkeypatch.setattr(wandb, "init", lambda **_: first.experiment)
    second = wandb_run(tmp_path, RunIdentity("one", "a run", "a sweep", resumed_at=2))
    for step, name in rows[rows.index((3, "train/loss")) :]:
        second.log_metrics({name: step}, step)
    wandb.finish()
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    found = history(records(folder))
    assert [(row[STEP], name) for row in found for name in row if name.endswith("loss")] == rows
    assert [(row["resumed_at"], row[STEP]) for row in found if "resumed_at" in row] == [(2, 4)]


def test_a_run_stopped_after_its_last_step_still_logs_its_test(tmp_path, monkeypatch):
    first = wandb_run(tmp_path)
    first.log_metrics({"val/loss": 1}, 8)
    monkeypatch.setattr(wandb, "init", lambda **_: first.experiment)
    second = wandb_run(tmp_path, RunIdentity("one", "a run", "a sweep", resumed_at=8))
    second.log_metrics({"test/loss": 2}, 8)
    wandb.finish()
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert history(records(folder)) == [{"val/loss": 1, STEP: 8}, {"resumed_at": 8, "test/loss": 2, STEP: 8}]


def listening(accept):
    """A port of this machine: one that takes connections and never answers, or one where nobody is."""
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    if accept:
        server.listen(8)
    return server


def test_offline_without_a_key_or_an_answer_and_without_waiting(tmp_path, monkeypatch, capfd):
    assert why_offline(1.0) == "no key: `wandb login`, or WANDB_API_KEY"
    for accept in (True, False):
        server = listening(accept)
        wandb.teardown()
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        start = time.monotonic()
        assert "does not answer" in why_offline(1.0)
        assert time.monotonic() - start < 5
        server.close()
    wandb_run(tmp_path, offline=False).log_metrics({"loss": 1.0}, 1)
    wandb.finish()
    lines = [line for line in capfd.readouterr().err.splitlines() if "offline" in line]
    assert len(lines) == 1
    assert f"wandb sync {tmp_path}/wandb/offline-run-*" in lines[0]
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 1
    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb.teardown()
    assert why_offline(1.0) == "WANDB_MODE=offline"


def test_event_files_have_every_step_once_whatever_was_logged_before_a_stop(tmp_path):
    """The first leg saved step 2 and was killed at 4, with half a record in its file."""
    first = started(TensorBoardLogger(str(tmp_path)), RunIdentity("one", None, None, None))
    for step in (1, 2, 3, 4):
        first.log_metrics({"train/loss": 1 / step, "val/loss": math.nan if step == 1 else step}, step)
        first.log_image("samples", PICTURE, step)
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
    """Every (name, step, value) of a run's metrics.csv."""
    names, rows = read_rows(folder / "metrics.csv")
    return {(name, int(row["step"]), float(row[name])) for name in names if name != "step" for row in rows if row[name]}


def in_event_files(folder):
    """The same of its event files, which hold float32, as the nearest of ``in_csv``."""
    return {(name, step, value) for name, series in scalars(folder / "tensorboard").items() for step, value in series}


def in_wandb(rows):
    """The same of W&B's rows, pictures aside."""
    pictures = {name.partition(".")[0] for row in rows for name in row if name.endswith("._type")}
    return {
        (name, row[STEP], value)
        for row in rows
        for name, value in row.items()
        if name != STEP and name.partition(".")[0] not in pictures
    }


def rounded(found):
    return {(name, step, float(np.float32(value))) for name, step, value in found}


@pytest.mark.slow
def test_a_sweep_is_one_group_of_runs_with_the_names_of_the_csv_and_a_dashboard_of_them(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        small = [*SMALL, "trainer.max_steps=8", "trainer.val_check_interval=4", *BOTH]
        patch.setattr(sys, "argv", ["vdm-train", "-m", *small, "schedule=linear,cosine", f"hydra.sweep.dir={tmp_path}/ours"])
        train.main()
    began, logged = [], set()
    for job, schedule in (("0", "linear"), ("1", "cosine")):
        folder = tmp_path / "ours" / job
        (wandb_folder,) = (folder / "wandb").glob("offline-run-*")
        found = records(wandb_folder)
        rows = history(found)
        assert in_wandb(rows) == in_csv(folder)
        assert rounded(in_csv(folder)) == in_event_files(folder)
        assert EventAccumulator(str(folder / "tensorboard")).Reload().Images("pictures/samples")
        began += [record["run"] for record in found if record["type"] == "run"]
        config = records(wandb_folder, "--summary")["config"]
        assert (config["choices"]["schedule"], config["provenance"]["vdm"]) == (schedule, code_version())
        assert config["optimizer"]["lr"] == 2e-3
        logged |= {name.removesuffix("._type") for row in rows for name in row}
    assert [run["run_group"] for run in began] == ["ours", "ours"]
    assert len({run["run_id"] for run in began}) == 2
    assert [run["display_name"] for run in began] == ["0", "1"]

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
def test_a_killed_run_goes_on_in_the_same_wandb_run_and_event_files(tmp_path, monkeypatch):
    """Killed after step 13; saved after step 10."""
    folder = tmp_path / "run"
    monkeypatch.setattr(training_runs, "SMALL", (*SMALL, *BOTH))
    stopped_run(folder, monkeypatch, 13, MOMENTS[0], kill)
    assert vdm_train(folder, "resume=true") == 0
    first, second = (records(leg) for leg in sorted((folder / "wandb").glob("offline-run-*")))
    identities = {record["run"]["run_id"] for leg in (first, second) for record in leg if record["type"] == "run"}
    assert identities == {(folder / "run_id").read_text()}
    codes = [record["exit"].get("exit_code", 0) for leg in (first, second) for record in leg if record["type"] == "exit"]
    assert codes == [1, 0]
    earlier, later = in_wandb(history(first)), in_wandb(history(second))
    assert ("resumed_at", 10, 10) in later
    assert earlier | later - {("resumed_at", 10, 10)} == in_csv(folder)
    assert {found for found in earlier if found[1] > 10} <= later
    assert rounded(in_csv(folder)) == in_event_files(folder)
    steps = [step for _, step, _ in in_csv(folder)]
    assert sum(len(series) for series in scalars(folder / "tensorboard").values()) == len(steps)


def test_a_run_is_named_after_what_it_was_told(tmp_path):
    assert train.run_name("schedule-cosine_seed-1", tmp_path / "3") == "schedule-cosine_seed-1"
    assert train.run_name("", tmp_path / "3") == "3"
    assert train.run_name("a" * 129, tmp_path / "3") == "3"


def test_a_dashboard_of_nothing_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    run = tmp_path / "0"
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra/overrides.yaml").write_text("[]")
    cases = (
        ([], "sweep=FOLDER"),
        (["sweep"], "names nothing"),
        (["sweep=["], "[ holds no run"),
        ([f"swep={tmp_path}"], "did you mean 'sweep'"),
        ([f"sweep={tmp_path}"], "logger=wandb"),
    )
    for arguments, message in cases:
        monkeypatch.setattr(sys, "argv", ["vdm-dashboard", *arguments])
        with pytest.raises(SystemExit, match="2"):
            dashboard.main()
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"), [("0/config.yaml", "a: [1"), ("0/config.yaml", "logger: 5"), ("multirun.yaml", "hydra: [1]")]
)
def test_a_dashboard_of_a_damaged_folder_is_refused_in_one_line(tmp_path, monkeypatch, capsys, name, content):
    monkeypatch.setattr(dashboard, "why_offline", lambda patience: "not asked")
    (tmp_path / "0/.hydra").mkdir(parents=True)
    (tmp_path / "0/.hydra/overrides.yaml").write_text("[]")
    (tmp_path / name).write_text(content)
    monkeypatch.setattr(sys, "argv", ["vdm-dashboard", f"sweep={tmp_path}"])
    with pytest.raises(SystemExit, match="2"):
        dashboard.main()
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "cannot be read (" in line


def test_every_panel_has_its_section():
    """The first pattern that fits, so that scores are not taken for terms, nor anything for nothing."""
    names = ["val/fid_inception", "val/layer_2", "val/bits_per_dim", "profile/one_t_variance", "throughput/x", "else"]
    titles = ["Scores of samples", "Other terms", "Bound, by term", "Over noise levels", "Throughput", "Training"]
    assert wandb_workspace.by_section(names) == dict(sorted(zip(titles, ([name] for name in names), strict=True), key=order))


def order(item):
    return list(wandb_workspace.SECTIONS).index(item[0])
