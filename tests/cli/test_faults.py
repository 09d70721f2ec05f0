"""Faults outside the program: a run ends as documented or resumes, and no partial result looks whole."""

import errno
import json
import os
import resource
import shutil
import signal
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from PIL import Image

from support.commands import invoke
from support.exports import MODELS, exported
from support.processes import start
from support.training_runs import SMALL, stopped_run, vdm_train
from vdm.cli import sample, train
from vdm.data.batches import ShuffledBatches
from vdm.data.split import Split
from vdm.data.stored import StoredRows
from vdm.errors import InvalidInput
from vdm.plots.figures import bound_curves
from vdm.runs.checkpoints import KEY, migrated, read_checkpoint
from vdm.runs.files import remove_remnants, write_atomically, write_png
from vdm.runs.folder import RunFolder
from vdm.runs.tables import append_rows
from vdm.training.checkpoint_io import AtomicCheckpointIO
from vdm.training.failure import note_failure
from vdm.training.loggers.csv import CsvLogger

OWN = {"format": 1, "config": {}, "provenance": {}}


class LimitedFiles:
    """Limit the size of files: the kernel refuses a write half-way, as on a full disk."""

    def __init__(self, size):
        self.size = size

    def __enter__(self):
        self.ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.earlier = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.earlier[1]))

    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.earlier)
        signal.signal(signal.SIGXFSZ, self.ignored)


def content(value):
    return {KEY: OWN, "state_dict": {"w": torch.full((1000,), float(value))}, "global_step": value}


def test_full_disk_during_a_save_costs_nothing(tmp_path):
    """The earlier checkpoint is whole, no other file is left, and the error is one line."""
    path, io = tmp_path / "last.ckpt", AtomicCheckpointIO()
    io.save_checkpoint(content(1), path)
    with LimitedFiles(path.stat().st_size // 2), pytest.raises(InvalidInput, match=r"last\.ckpt cannot be written \("):
        io.save_checkpoint(content(2), path)
    assert read_checkpoint(path).step == 1
    assert list(tmp_path.iterdir()) == [path]


def save_for_ever(path, report):
    for step in range(1, 100_000):
        state = {"w": torch.full((2_000_000,), float(step))}
        AtomicCheckpointIO().save_checkpoint({KEY: OWN, "state_dict": state, "global_step": step}, path)
        report.send(step)


@pytest.mark.slow
def test_kill_during_a_save_leaves_the_last_checkpoint(tmp_path):
    """SIGKILL at ten moments spread over the duration of a save."""
    path, fork = tmp_path / "last.ckpt", get_context("fork")
    for attempt in range(10):
        ours, theirs = fork.Pipe()
        process = fork.Process(target=save_for_ever, args=(path, theirs), daemon=True)
        process.start()
        ours.recv()
        begun = time.perf_counter()
        reported = ours.recv()
        time.sleep((time.perf_counter() - begun) * attempt / 10)
        process.kill()
        process.join()
        saved = read_checkpoint(path)
        assert saved.step >= reported
        assert torch.equal(saved.state["w"], torch.full((2_000_000,), float(saved.step)))
    remove_remnants(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_remove_remnants_removes_nothing_else(tmp_path):
    names = (".last.ckpt.a1b2c3d4", "last.ckpt", ".hydra", "metrics.csv", ".config.yaml.zzzzzzzz", "best.ckpt")
    for name in names:
        (tmp_path / name).touch()
    remove_remnants(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", ".hydra", "metrics.csv", "best.ckpt"}


def test_full_disk_ends_in_one_line_and_run_resumes(tmp_path, capsys):
    """The limit admits the yaml and csv files and stops the checkpoint half-way."""
    folder = tmp_path / "run"
    with LimitedFiles(100_000):
        assert vdm_train(folder) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vdm-train: ")]
    assert "last.ckpt cannot be written" in line
    assert "cannot be written" in (folder / "failure.txt").read_text()
    assert not (folder / "metrics.json").exists()
    assert not list((folder / "checkpoints").iterdir())
    assert vdm_train(folder, "resume=true") == 0
    assert not (folder / "failure.txt").exists()
    assert json.loads((folder / "metrics.json").read_text())["test"]["bits_per_dim"]["value"] > 0


WRITERS = {
    "a picture": lambda path: write_png(path, Image.effect_noise((200, 200), 50)),
    "a figure": lambda path: write_png(path, bound_curves({"val/bits_per_dim": ([1, 2], [1.0, 2.0])})),
    "rows": lambda path: append_rows(path, ("a", "b"), [(1.0, 2.0)] * 2000),
    "a log row": lambda path: [CsvLogger(path).log_metrics({"a": 1.0 / 3}, step) for step in range(2000)],
}


@pytest.mark.parametrize("writer", WRITERS)
def test_full_disk_names_the_file_of_every_writer(writer, tmp_path):
    path = tmp_path / "the_file"
    with LimitedFiles(4000), pytest.raises(InvalidInput, match=r"/the_file cannot be written \(File too large\)"):
        WRITERS[writer](path)


def test_full_disk_names_the_file_of_samples(tmp_path, capsys):
    path, _ = exported(tmp_path, MODELS["vdm"][1])
    with LimitedFiles(3000):
        assert invoke(sample, f"ckpt={path}", "steps=2", f"hydra.run.dir={tmp_path}/samples") == 2
    assert f"{tmp_path}/samples" in capsys.readouterr().err.splitlines()[-1]


def test_log_holds_what_was_printed(tmp_path, capsys):
    """The plan, the last step's line, the table and how the run ended, without colours; a refusal's reason."""
    assert (
        vdm_train(tmp_path / "run", "trainer.max_steps=2", "trainer.val_check_interval=2", "+trainer.profiler=simple") == 0
    )
    out, log = capsys.readouterr().out, (tmp_path / "run/train.log").read_text()
    assert [line for line in out.splitlines() if line not in log.splitlines()] == []
    assert "step 2 of 2" in log
    assert "\r" not in log
    assert "FIT Profiler Report" in (tmp_path / "run/fit-profile.txt").read_text()
    assert "run/fit-profile.txt" in out
    assert vdm_train(tmp_path / "bad", "data.batch_size=0") == 2
    assert "refused: batch_size=0 must be" in (tmp_path / "bad/train.log").read_text()


def test_stop_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    """On a line of its own, also beside a progress bar."""
    folder = tmp_path / "run"
    stop = lambda: signal.raise_signal(signal.SIGTERM)  # noqa: E731
    assert stopped_run(folder, monkeypatch, 3, "on_before_optimizer_step", stop) == 143
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "SIGTERM at step 4" in line]
    assert line.rpartition("\r")[2].startswith("SIGTERM at step 4: saved")
    assert f"resume=true hydra.run.dir={folder}" in line


def test_stored_data_survive_removal_of_their_file(tmp_path):
    """A process that has opened a file keeps it when it is removed or replaced."""
    x = torch.arange(600, dtype=torch.uint8).view(60, 1, 10)
    path = tmp_path / "train.bin"
    path.write_bytes(x.numpy().tobytes())
    for vanish in (path.unlink, lambda: write_atomically(path, b"")):
        path.write_bytes(x.numpy().tobytes())
        batches = iter(ShuffledBatches(Split(StoredRows(path.open("rb"), (60, 1, 10))), 6, seed=0))
        seen = [next(batches)]
        vanish()
        seen += list(batches)
        assert len(seen) == 10
        assert all(torch.equal(batch.x, x[batch.index]) for batch in seen)


def test_unwritable_folder_is_one_line(tmp_path, capsys):
    """A path below a file is refused for root as well."""
    (tmp_path / "file").touch()
    assert vdm_train(tmp_path / "file" / "run") == 2
    assert f"{tmp_path}/file is a file, where a folder is needed" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder_is_one_line(tmp_path, capsys):
    (tmp_path / "closed").mkdir(mode=0o555)
    assert vdm_train(tmp_path / "closed" / "run") == 2
    assert "cannot be written (Permission denied)" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("later", "step", "moment"),
    [
        (False, 8, "on_train_batch_end"),
        (True, 8, "on_train_batch_end"),
        pytest.param(False, 30, "on_train_batch_end", marks=pytest.mark.slow),
        pytest.param(False, 28, "on_validation_end", marks=pytest.mark.slow),
        (False, 30, "on_test_start"),
        pytest.param(False, 30, "on_test_end", marks=pytest.mark.slow),
    ],
)
def test_removed_run_folder_ends_in_one_line(tmp_path, monkeypatch, capsys, later, step, moment):
    """Whenever it is removed, also if something has created the folder again, whose curves would lack their start."""
    folder = tmp_path / "run"

    def remove():
        shutil.rmtree(folder)
        if later:
            (folder / "checkpoints").mkdir(parents=True)

    assert stopped_run(folder, monkeypatch, step, moment, remove, "callbacks.last.every=200") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"vdm-train: {folder}/")
    assert "is gone: its folder was removed" in line
    assert not [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(("gone", "begun"), [("data.bin", False), ("data.bin", True), ("run/mine.bin", True)])
def test_other_missing_file_keeps_its_traceback(tmp_path, gone, begun):
    folder = RunFolder(tmp_path / "run")
    if begun:
        write_atomically(folder.config, b"")
    with pytest.raises(FileNotFoundError), folder.locked():
        (tmp_path / gone).read_bytes()


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_failing_disk_is_one_line(tmp_path, monkeypatch, capsys, number):
    def fail(*_):
        raise OSError(number, os.strerror(number), "data.bin")

    monkeypatch.setattr("vdm.cli.train._run", fail)
    assert vdm_train(tmp_path / "run") == 2
    assert f"data.bin is out of reach ({os.strerror(number)}): its disk or" in capsys.readouterr().err.splitlines()[-1]


def test_first_failure_is_reported_when_nothing_can_be_written(tmp_path):
    folder = RunFolder(tmp_path / "run")
    (tmp_path / "run").touch()
    note_failure(folder, ValueError("the first"), time.time())
    with pytest.raises(InvalidInput, match="run is a file, where a folder is needed"):
        write_atomically(folder.failure, b"x")


def test_old_formats_migrate_stepwise_or_are_refused():
    """1 → 2 → 3 by the table of migrations; 0 has no migration, and 4 is too new."""
    table = {
        1: lambda c: {**c, "vdm": {**c["vdm"], "format": 2, "trail": "a"}},
        2: lambda c: {**c, "vdm": {**c["vdm"], "format": 3, "trail": c["vdm"]["trail"] + "b"}},
    }
    assert migrated({"vdm": {"format": 1}}, Path("x"), table, 3)["vdm"] == {"format": 3, "trail": "ab"}
    assert migrated({"vdm": {"format": 3}}, Path("x"), table, 3)["vdm"] == {"format": 3}
    for found in (0, 4):
        own = {"vdm": {"format": found, "provenance": {"vdm": "9.9"}}}
        with pytest.raises(InvalidInput, match=rf"x has format {found} \(vdm 9\.9\), this version reads 3"):
            migrated(own, Path("x"), table, 3)
    for own in ({}, {"format": "1"}, None, []):
        with pytest.raises(InvalidInput, match="names no format"):
            migrated({"vdm": own}, Path("x"), table, 3)


@pytest.mark.parametrize("gone", ["config", "provenance"])
def test_incomplete_checkpoint_is_one_line(gone, tmp_path):
    torch.save({**content(1), KEY: {k: v for k, v in OWN.items() if k != gone}}, tmp_path / "x.ckpt")
    with pytest.raises(InvalidInput, match=f"is not a whole checkpoint of vdm: it has no '{gone}'"):
        read_checkpoint(tmp_path / "x.ckpt")


def test_checkpoint_holds_config_and_provenance(tmp_path):
    """Format, config, the data's fingerprints and the code's version are in every checkpoint."""
    assert vdm_train(tmp_path / "run", "trainer.max_steps=2", "trainer.val_check_interval=2") == 0
    for name in ("best", "last"):
        saved = read_checkpoint(tmp_path / f"run/checkpoints/{name}.ckpt")
        assert saved.config["model"]["_target_"] == "vdm.models.VDM"
        assert len(saved.provenance["data"]["splits"]["train"]["sha256"]) == 16
        assert saved.provenance["vdm"]


def told_of(pid, name):
    """Read a file of /proc; empty if the process has just ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def child_of(process):
    """The process of rank 1; the command has other, short-lived children."""
    while process.poll() is None:
        for pid in map(int, told_of(process.pid, f"task/{process.pid}/children").split()):
            if b"LOCAL_RANK=1" in told_of(pid, "environ"):
                return pid
        time.sleep(0.05)
    raise AssertionError(process.communicate())


def runs(pid):
    state = told_of(pid, "stat").rpartition(b")")[2].split()
    return bool(state) and state[0] not in (b"Z", b"T")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("processes")


FATES = {"the first is killed": (0, signal.SIGKILL), "the second is killed": (1, signal.SIGKILL)}
FATES["the second hangs"] = (1, signal.SIGSTOP)


MOMENTS = {
    "setup": 0,
    "on_fit_start": 0,
    "on_train_start": 0,
    "on_before_optimizer_step": 1,
    "on_validation_end": 2,
    "on_train_end": 2,
    "on_test_start": 2,
    "on_test_end": 2,
}
"""Hooks of a run of two steps, and the step at which they are called."""

AROUND = ("build", "_start", "write_results")
"""What ``vdm-train`` calls before and after the Trainer."""


def status_of_child(call, *arguments):
    """Run ``call`` in a forked process, which may end itself, and return its exit status; −n if signal n ended it."""
    process = get_context("fork").Process(target=lambda: sys.exit(call(*arguments)))
    process.start()
    process.join(120)
    return process.exitcode


def interrupted_run(folder, moment, number):
    """Train for two steps, with one signal at ``moment``."""
    short = ("trainer.max_steps=2", "trainer.val_check_interval=2", "callbacks.sample_grid.n=4")
    with pytest.MonkeyPatch.context() as patch:
        if moment in MOMENTS:
            return stopped_run(folder, patch, MOMENTS[moment], moment, lambda: os.kill(os.getpid(), number), *short)
        original = getattr(train, moment)
        patch.setattr(train, moment, lambda *given: (os.kill(os.getpid(), number), original(*given))[1])
        return vdm_train(folder, *short)


QUICK = ("on_fit_start", "on_train_end", "build")


@pytest.mark.parametrize(
    "moment", [m if m in QUICK else pytest.param(m, marks=pytest.mark.slow) for m in (*MOMENTS, *AROUND)]
)
def test_signal_at_any_moment_is_the_status(moment, tmp_path):
    """143 after SIGTERM and 130 after SIGINT, never 0 without a result; a save is left from the first step on."""
    for number in (signal.SIGTERM, signal.SIGINT) if moment == "on_test_start" else (signal.SIGTERM,):
        folder = tmp_path / number.name
        assert status_of_child(interrupted_run, folder, moment, number) == 128 + number
        assert not (folder / "metrics.json").exists()
        assert not (folder / "failure.txt").exists()
        assert (folder / "checkpoints/last.ckpt").exists() == (MOMENTS.get(moment, 0) > 0 or moment == "write_results")


@pytest.mark.slow
@pytest.mark.parametrize("fate", FATES)
def test_end_of_one_process_ends_the_other(fate, home):
    """The other ends soon after the time limit of a collective operation, here 40 s, without a result."""
    folder, (rank, number) = home / fate.replace(" ", "_"), FATES[fate]
    limited = ("trainer=ddp", "trainer.devices=2", "trainer.strategy.timeout.seconds=40", "trainer.max_steps=100000")
    process = start("vdm-train", folder, *[word for word in SMALL if "max_steps" not in word], *limited)
    pids = (process.pid, child_of(process))
    while process.poll() is None and not (folder / "checkpoints/last.ckpt").exists():
        time.sleep(0.05)
    os.kill(pids[rank], number)
    killed = time.monotonic()
    while process.poll() is None or any(map(runs, pids)):
        assert time.monotonic() - killed < 100
        time.sleep(0.1)
    if number == signal.SIGSTOP:
        os.kill(pids[rank], signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert "another process of this run ended or hangs" in (folder / "failure.txt").read_text()
    assert read_checkpoint(folder / "checkpoints/last.ckpt").step >= 5
    assert not (folder / "metrics.json").exists()


PEER = RuntimeError("[pair.cc:534] Connection closed by peer [127.0.0.1]:1234")
OWN_REASON = "ValueError: no such file (rank 1 of 2)"


@pytest.mark.parametrize(
    ("told", "noted"),
    [
        ([(0, PEER), (1, ValueError("no such file"))], OWN_REASON),
        ([(1, ValueError("no such file")), (0, PEER)], OWN_REASON),
        ([(1, ValueError("no such file")), (0, ValueError("later"))], OWN_REASON),
        (
            [(1, PEER)],
            f"another process of this run ended or hangs, and left no reason (RuntimeError: {PEER}) (rank 1 of 2)",
        ),
    ],
)
def test_first_cause_of_several_processes_stays(tmp_path, monkeypatch, told, noted):
    """The loss of a process is a consequence, whoever notices it first; it is the reason only if there is no other."""
    monkeypatch.setattr("vdm.training.failure.PATIENCE_S", 0.0)
    folder, since = RunFolder(tmp_path), time.time() - 1
    folder.failure.write_text("ValueError: of an earlier start\n")
    os.utime(folder.failure, (0, 0))
    for rank, error in told:
        monkeypatch.setattr("vdm.training.failure.rank_zero_only.rank", rank)
        note_failure(folder, error, since, processes=2)
    assert folder.failure.read_text() == f"{noted}\n"


@pytest.mark.slow
def test_exception_of_one_process_is_the_reason(home, monkeypatch):
    folder = home / "raising"
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "support"), prepend=os.pathsep)
    raising = ("+callbacks.poison._target_=poison.Raise", "+callbacks.poison.rank=1", "+callbacks.poison.step=7")
    process = start("vdm-train", folder, *SMALL, "trainer=ddp", "trainer.devices=2", *raising)
    process.communicate(timeout=200)
    assert process.returncode not in (0, 2)
    assert (folder / "failure.txt").read_text() == "ArithmeticError: of rank 1 alone (rank 1 of 2)\n"
    assert not (folder / "metrics.json").exists()


@pytest.mark.slow
def test_nan_in_a_validation_of_one_process_is_told(home, monkeypatch):
    """Rank 0, whose own part is finite, does not report a number of its own examples alone."""
    folder = home / "nan"
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "support"), prepend=os.pathsep)
    poison = ("+callbacks.poison._target_=poison.PoisonValidation", "+callbacks.poison.rank=1", "trainer.max_steps=2")
    process = start("vdm-train", folder, *SMALL, "trainer=ddp", "trainer.devices=2", *poison, "trainer.val_check_interval=2")
    process.communicate(timeout=400)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["val"]["bits_per_dim"]["value"] is None
    assert any("bits per dim of the validation is nan" in sentence for sentence in metrics["warnings"])
    assert metrics["test"]["bits_per_dim"]["value"] > 0


@pytest.mark.slow
def test_non_finite_loss_of_one_process_ends_both(home, monkeypatch):
    """Rank 0 ends too, although its own loss is finite, and saves no gradient of rank 1."""
    folder = home / "poisoned"
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "support"), prepend=os.pathsep)
    poison = ("+callbacks.poison._target_=poison.Poison", "+callbacks.poison.rank=1", "+callbacks.poison.step=7")
    process = start("vdm-train", folder, *SMALL, "trainer=ddp", "trainer.devices=2", "callbacks.last.every=1", *poison)
    _, error = process.communicate(timeout=200)
    assert process.returncode == 2
    own = [line for line in error.splitlines() if "the training loss is nan at step 7" in line]
    assert own
    assert all("(32 of 32 in the batch)" in line and "non_finite_step_0000007_part_1.ckpt" in line for line in own)
    assert "the training loss is nan at step 7" in (folder / "failure.txt").read_text()
    last = read_checkpoint(folder / "checkpoints/last.ckpt")
    assert last.step == 7
    assert all(torch.isfinite(value).all() for value in last.state.values())
    assert not (folder / "metrics.json").exists()
