"""A run that was stopped and goes on is the run that was not."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from support.training_runs import MOMENTS, SMALL, STEPS, kill, logged, stopped_run, vdm_train
from vdm.errors import InvalidInput
from vdm.estimate import Estimate
from vdm.evaluation import BoundEvaluation, BoundSummary, ranks
from vdm.reports import console
from vdm.runs.folder import RunFolder, as_metrics
from vdm.runs.load import load_run
from vdm.runs.tables import read_rows, truncate_after
from vdm.training.callbacks.checkpoint import BestCheckpoint
from vdm.training.callbacks.last import LastCheckpoint
from vdm.training.loggers.csv import CsvLogger
from vdm.training.signals import Signals
from vdm.training.slurm import forget_earlier_result


def same(one, other):
    """Weights, average, optimiser, data order, and all that was measured."""
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
    """A run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert vdm_train(folder) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("step", "moment"), [(3, MOMENTS[0]), (13, MOMENTS[2]), (14, MOMENTS[1])])
def test_a_killed_run_goes_on_bit_for_bit(whole, tmp_path, monkeypatch, step, moment):
    """Before the first save; in mid-step in mid-epoch; in a validation."""
    folder = tmp_path / "run"
    assert stopped_run(folder, monkeypatch, step, moment, kill) is None
    assert not (folder / "metrics.json").exists()
    identity = (folder / "run_id").read_text()
    assert vdm_train(folder, "resume=true") == 0
    assert (folder / "run_id").read_text() == identity
    same(whole, folder)


@pytest.mark.parametrize(
    ("number", "status", "step"),
    [
        (signal.SIGTERM, 143, 8),
        pytest.param(signal.SIGTERM, 143, STEPS - 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, 21, marks=pytest.mark.slow),
    ],
)
def test_a_signalled_run_saves_leaves_and_goes_on(whole, tmp_path, monkeypatch, number, status, step):
    """Where the signal comes in the middle of a step, the checkpoint is that step's end."""
    folder = tmp_path / "run"
    before = signal.getsignal(number)

    def send():
        os.kill(os.getpid(), number)

    assert stopped_run(folder, monkeypatch, step, "on_before_optimizer_step", send) == status
    assert signal.getsignal(number) == before
    assert torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["global_step"] == step + 1
    assert vdm_train(folder, "resume=true") == 0
    same(whole, folder)


@pytest.mark.slow
def test_in_a_job_of_slurm_sigterm_saves_and_leaves_the_end_to_slurm(whole, tmp_path, monkeypatch, capsys):
    for name, value in {"NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_ID": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    folder = tmp_path / "run"
    assert stopped_run(folder, monkeypatch, 8, "on_before_optimizer_step", lambda: signal.raise_signal(signal.SIGTERM)) == 0
    assert f"SIGTERM at step 9: saved {folder}/checkpoints/last.ckpt" in capsys.readouterr().err
    same(whole, folder)


class Refused(Exception):
    """What submitit's handler raises, with the job queued again or not."""


@pytest.mark.parametrize("outcome", [SystemExit(-1), Refused("no answer"), None])
def test_nothing_that_happens_while_a_job_is_queued_again_becomes_its_result(monkeypatch, capsys, outcome):
    """Neither the answer of the handler nor a late SIGTERM, for which Lightning's handler would wait for other processes."""
    calls = []

    def submitit(number, frame):
        calls.append(number)
        if outcome is not None:
            raise outcome

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGCHLD)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        signal.signal(signal.SIGUSR2, submitit)
        signal.signal(signal.SIGTERM, lambda *_: pytest.fail("SIGTERM was heard"))
        signals = Signals()
        signals.listen()
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == {signal.SIGUSR2, signal.SIGTERM}
        assert calls == []
        signals.shut_out()
        signals.hand_on(signal.SIGUSR2)
        signals.restore()
        os.kill(os.getpid(), signal.SIGTERM)
        assert calls == [signal.SIGUSR2]
        assert signal.getsignal(signal.SIGUSR2) is submitit
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ("SIGUSR2 was answered with Refused: no answer" in capsys.readouterr().err) == isinstance(outcome, Refused)


@pytest.mark.parametrize(("starts", "left"), [("0", ["7_0_result.pkl", "7_1_result.pkl"]), ("1", ["7_0_result.pkl"])])
def test_a_job_that_starts_again_forgets_what_this_process_told_submitit_before(tmp_path, monkeypatch, starts, left):
    pytest.importorskip("submitit")
    for name in ("7_0_result.pkl", "7_1_result.pkl"):
        (tmp_path / name).touch()
    settings = {"SLURM_RESTART_COUNT": starts, "SLURM_JOB_ID": "7", "SLURM_PROCID": "1"}
    for name, value in {**settings, "SUBMITIT_EXECUTOR": "slurm", "SUBMITIT_FOLDER": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    forget_earlier_result()
    assert sorted(path.name for path in tmp_path.iterdir()) == left


@pytest.mark.parametrize(("tasks", "handler"), [(None, signal.SIG_DFL), ("1", signal.SIG_IGN)])
@pytest.mark.parametrize("stage", ["test", "validate"])
def test_after_the_training_sigterm_ends_the_process_and_waits_for_no_other(monkeypatch, tasks, handler, stage):
    """In a job of SLURM, SLURM ends it."""
    if tasks is not None:
        monkeypatch.setenv("SLURM_NTASKS", tasks)
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("SIGTERM was heard"))
    try:
        last = LastCheckpoint("unused", every=1)
        heard = signal.getsignal(signal.SIGTERM)
        last.on_validation_start(SimpleNamespace(state=SimpleNamespace(fn="fit")), None)
        assert signal.getsignal(signal.SIGTERM) == heard
        start = {"test": last.on_test_start, "validate": last.on_validation_start}[stage]
        start(SimpleNamespace(state=SimpleNamespace(fn=stage)), None)
        assert signal.getsignal(signal.SIGTERM) == handler
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("own", "others", "told"),
    [
        (set(), set(), None),
        (set(), {signal.SIGUSR2}, signal.SIGUSR2),
        ({signal.SIGTERM}, {signal.SIGUSR2}, signal.SIGUSR2),
        ({signal.SIGTERM, signal.SIGUSR2}, set(), signal.SIGUSR2),
        ({signal.SIGINT}, {signal.SIGTERM}, signal.SIGTERM),
    ],
)
def test_all_processes_obey_one_signal_whichever_of_them_it_has_reached(monkeypatch, own, others, told):
    """At the end of the next step, since none waits for the others' answers in the same one; a lone process at once."""
    of_others = torch.tensor([number in others for number in Signals.by_weight]).int()
    monkeypatch.setattr(ranks, "max_all_reduce", lambda votes: votes.maximum(of_others))
    monkeypatch.setattr(ranks, "rank_and_world_size", lambda: (0, 2))
    last, trainer = LastCheckpoint("unused", every=1), SimpleNamespace(strategy=SimpleNamespace(root_device="cpu"))
    last.signals.received = own
    assert [last._told(trainer), last._told(trainer)] == [None, told]
    assert LastCheckpoint("unused", every=1)._told(trainer, now=True) == (max(others) if others else None)
    monkeypatch.setattr(ranks, "rank_and_world_size", lambda: (0, 1))
    last.signals.received = own | others
    assert last._told(trainer) == told


@pytest.mark.slow
def test_the_best_is_known_where_an_epoch_ends_with_its_validation(tmp_path, monkeypatch):
    """Lightning would tell it only once the epoch has ended, and a signal ends the run before."""
    folder, settings = tmp_path / "run", ("trainer.val_check_interval=1.0", "trainer.check_val_every_n_epoch=1")
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[__name__], "SMALL", (*SMALL, *settings, "data.batch_size=135"))
        told = stopped_run(folder, monkeypatch, 20, "on_validation_end", lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert told == 143
    state = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["callbacks"]
    best = next(value["best_model_score"] for key, value in state.items() if "KeepBest" in key)
    measured = [float(row["val/bits_per_dim"]) for row in logged(folder) if row["val/bits_per_dim"]]
    assert len(measured) == 2
    assert best.item() == pytest.approx(min(measured)) == pytest.approx(measured[1])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_run_killed_over_and_over_at_random_goes_on_bit_for_bit(whole, tmp_path, monkeypatch, seed):
    draw = random.Random(seed)
    folder = tmp_path / "run"
    step = draw.randrange(1, STEPS - 1)
    stopped_run(folder, monkeypatch, step, draw.choice((MOMENTS[0], MOMENTS[2])), kill)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[__name__], "SMALL", (*SMALL, "resume=true"))
        later = draw.randrange(step, STEPS)
        what = draw.choice((kill, lambda: os.kill(os.getpid(), signal.SIGTERM)))
        stopped_run(folder, monkeypatch, later, draw.choice((MOMENTS[0], MOMENTS[2])), what)
    assert vdm_train(folder, "resume=true") == 0
    same(whole, folder)


def test_a_finished_run_is_not_run_again(whole, capsys):
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    assert vdm_train(whole, "resume=true") == 0
    metrics, out = json.loads((whole / "metrics.json").read_text()), capsys.readouterr().out
    for stage, name in (("test", "test"), ("val", "validation")):
        assert console.bound_sentence(name, Estimate(**metrics[stage]["bits_per_dim"])) in out
    assert all(
        path.read_bytes() == content for path, content in before.items() if path.suffix in (".ckpt", ".csv", ".json", ".png")
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["resume=true", "schedule=cosine"], "model.schedule"),
        (["resume=true", "seed=5"], "data.seed=0, not 5"),
        (["resume=true", "trainer.max_steps=99"], "trainer.max_steps=30, not 99"),
        ([], "earlier run's result"),
    ],
)
def test_another_run_is_not_taken_for_this_one(whole, capsys, overrides, message):
    assert vdm_train(whole, *overrides) == 2
    assert message in capsys.readouterr().err


def test_a_run_does_not_go_on_with_other_data(whole, tmp_path, capsys):
    """It would be tested on what it was trained on, and the next checkpoint would not know."""
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
def test_what_nobody_knows_of_which_run_it_is_is_not_gone_on_from(whole, tmp_path, capsys, left, known):
    """Such as what vdm-evaluate wrote there: it would be told as this run's."""
    (tmp_path / "checkpoints").mkdir()
    for name in (left, *known):
        shutil.copy(whole / name, tmp_path / name)
    assert vdm_train(tmp_path, "resume=true") == 2
    assert f"{left} lies without the config.yaml and run_id" in capsys.readouterr().err
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize("known", [[], ["config.yaml"], ["config.yaml", "run_id"]])
def test_a_run_that_was_killed_before_its_first_checkpoint_may_be_resumed(whole, tmp_path, known):
    for name in known:
        shutil.copy(whole / name, tmp_path / name)
    RunFolder(tmp_path).check(OmegaConf.load(whole / "config.yaml"), resume=True)


def test_a_run_does_not_go_on_from_a_checkpoint_of_other_settings(whole, tmp_path, capsys):
    """One that was put there: config.yaml does not know of it. What may change when a run goes on may differ here too."""
    (tmp_path / "checkpoints").mkdir()
    for name in ("config.yaml", "run_id"):
        shutil.copy(whole / name, tmp_path / name)
    content = torch.load(whole / "checkpoints/last.ckpt", weights_only=True)
    content["vdm"]["config"]["trainer"]["devices"] = 7
    content["vdm"]["config"]["seed"] = 9
    torch.save(content, tmp_path / "checkpoints/last.ckpt")
    assert vdm_train(tmp_path, "resume=true") == 2
    assert "last.ckpt holds a run with seed=9, not 0" in capsys.readouterr().err


def test_the_weights_of_the_last_step_are_tested_and_kept_whatever_ended_the_run(tmp_path):
    """An epoch of 21 steps, no validation in it, a save every 8."""
    epoch = ("trainer.max_steps=-1", "trainer.max_epochs=1", "trainer.val_check_interval=1000", "callbacks.last.every=8")
    assert vdm_train(tmp_path, *epoch) == 0
    facts = json.loads((tmp_path / "metrics.json").read_text())["provenance"]
    assert (facts["steps"], facts["step"], facts["checkpoint"]) == (21, 21, "last.ckpt")
    assert torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 21


@pytest.mark.parametrize(
    "kept", ["+callbacks.checkpoint.save_top_k=1", "+callbacks.checkpoint.save_top_k=0", "~callbacks.checkpoint"]
)
def test_the_validation_is_of_the_weights_that_are_tested(tmp_path, kept):
    """Of the best ones, which are not those of the last validation here; or of the last, after which none was due."""
    short = ("trainer.max_steps=7", "trainer.val_check_interval=2", "optimizer.lr=1", "learning_rate=constant")
    assert vdm_train(tmp_path, kept, *short) == 0
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


def test_each_row_is_of_whole_steps_where_gradients_are_accumulated(tmp_path):
    """And what is evaluated to see whether everything runs is no validation."""
    few = ("trainer.max_steps=8", "trainer.val_check_interval=24", "trainer.num_sanity_val_steps=1")
    assert vdm_train(tmp_path, "+trainer.accumulate_grad_batches=3", *few) == 0
    rows = read_rows(tmp_path / "metrics.csv")[1]
    assert [row["step"] for row in rows if row["train/bits_per_dim"]] == ["4", "8"]
    assert [row["step"] for row in rows if row["val/bits_per_dim"]] == ["8"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", "a: [1"),
        ("config.yaml", "- a"),
        ("metrics.json", "{"),
        ("metrics.json", "{}"),
        ("metrics.json", "[]"),
        ("metrics.json", f'{{"test": {{"bits_per_dim": {{"value": 1{400 * "0"}, "mc_se": 1, "data_se": 1}}}}}}'),
        ("config.yaml", "a: '${b'"),
    ],
)
def test_a_run_whose_files_were_changed_does_not_go_on(tmp_path, name, content):
    folder = RunFolder(tmp_path)
    (tmp_path / name).write_text(content)
    read = folder.result if name == "metrics.json" else lambda: folder.check(OmegaConf.create({"a": 1}), resume=True)
    with pytest.raises(InvalidInput, match=rf"{name} cannot be read \(\w+: .*choose another hydra.run.dir=") as caught:
        read()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json"])
def test_a_pipe_in_the_place_of_a_run_s_file_is_not_waited_for(tmp_path, name):
    folder = RunFolder(tmp_path)
    os.mkfifo(tmp_path / name)
    read = folder.result if name == "metrics.json" else lambda: folder.check(OmegaConf.create({"a": 1}), resume=True)
    with pytest.raises(InvalidInput, match=rf"{name} cannot be read \(OSError: no regular file\)"):
        read()


def test_a_folder_is_one_process_s(tmp_path, monkeypatch):
    """Held by another one it is refused, and left as it was; when that one ends, it is free."""
    monkeypatch.setattr("vdm.runs.folder.LOCK_TIMEOUT_S", 0)
    hold = f"import fcntl, time; f = open('{tmp_path}/.lock', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True)"
    with subprocess.Popen([sys.executable, "-c", f"{hold}; time.sleep(99)"], stdout=subprocess.PIPE) as other:
        assert other.stdout.read(1) == b"1"
        with pytest.raises(InvalidInput, match="in use by another process"), RunFolder(tmp_path).locked():
            pass
        other.kill()
    with RunFolder(tmp_path).locked():
        pass


@pytest.mark.slow
def test_a_run_that_has_used_its_budget_keeps_its_last_step(tmp_path):
    assert vdm_train(tmp_path, "callbacks.cpu_time.seconds=0.5", "callbacks.last.every=1000") == 0
    steps = json.loads((tmp_path / "metrics.json").read_text())["provenance"]["steps"]
    assert 0 < steps < STEPS
    assert torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["global_step"] == steps


@pytest.mark.slow
def test_a_checkpoint_that_lies_about_is_not_taken_for_this_run_s(whole, tmp_path):
    """A best one without a last one: of nobody knows whom, or in the folder of a run that was killed early."""
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


def best_of(folder, *files, score=1.5):
    """The callback of a run in ``folder`` that holds ``files`` for its best."""
    best = BestCheckpoint(dirpath=folder, filename="best", monitor="val/bits_per_dim")
    best.best_model_score = best.kth_value = torch.tensor(score)
    best.best_model_path = best.kth_best_model_path = str(files[0])
    best.best_k_models = {str(file): torch.tensor(score) for file in files}
    return best


def test_the_best_checkpoint_is_still_known_in_a_folder_that_was_moved(tmp_path):
    old, new = best_of(tmp_path / "old", tmp_path / "old/best.ckpt"), best_of(tmp_path / "new", "", score=9.0)
    new.load_state_dict(old.state_dict())
    here = str(tmp_path / "new/best.ckpt")
    assert (new.best_model_path, new.kth_best_model_path, new.best_k_models) == (here, here, {here: torch.tensor(1.5)})
    assert new.best_model_score == new.kth_value == 1.5


def test_the_best_checkpoint_is_remembered_by_its_metric_however_often_it_is_looked_for():
    def key(**settings):
        return BestCheckpoint(**{"monitor": "val/bits_per_dim", "mode": "min"} | settings).state_key

    assert key() == key(every_n_train_steps=7) == key(save_top_k=3)
    assert len({key(), key(monitor="val/reconstruction"), key(mode="max")}) == 3


@pytest.mark.parametrize(
    "named", ["{0}/mine.ckpt", "{0}/new/../mine.ckpt", "{0}/new/..", "{0}", "s3://bucket/mine.ckpt", ".."]
)
def test_a_folder_from_elsewhere_names_no_file_of_ones_own(tmp_path, named):
    file = named.format(tmp_path)
    new = best_of(tmp_path / "new", "")
    new.load_state_dict(best_of(tmp_path / "new", file).state_dict())
    for path in (new.best_model_path, new.kth_best_model_path, *new.best_k_models):
        assert path in ("", str(tmp_path / "new/mine.ckpt"))


def test_an_unfinished_run_is_not_started_over_by_mistake(tmp_path):
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    folder.last.touch()
    with pytest.raises(InvalidInput, match="add resume=true"):
        folder.check({}, resume=False)


def test_the_curve_has_every_step_once(whole):
    with (whole / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows if row["train/bits_per_dim"]] == list(range(4, STEPS + 1, 4))
    assert [int(row["step"]) for row in rows if row["val/bits_per_dim"]] == list(range(7, STEPS + 1, 7))
    assert [int(row["step"]) for row in rows if row["test/bits_per_dim"]] == [STEPS]


def test_metrics_file_is_whole_at_every_moment(tmp_path):
    """New columns, a row cut short by a crash, and cutting back."""
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
