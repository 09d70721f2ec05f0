"""Signals: handling, agreement between processes, and submitit's results."""

import os
import signal
from types import SimpleNamespace

import pytest
import torch

from vdm.evaluation import ranks
from vdm.training.callbacks.last import LastCheckpoint
from vdm.training.signals import Signals, end
from vdm.training.slurm import forget_earlier_result


class Refused(Exception):
    """Error of submitit's handler, whether or not the job was requeued."""


@pytest.mark.parametrize("outcome", [SystemExit(-1), Refused("no answer"), None])
def test_signals_forward_never_raises(monkeypatch, capsys, outcome):
    """Neither the handler nor a late SIGTERM raises; Lightning's SIGTERM handler would wait for other processes."""
    calls = []

    def submitit(number, frame):
        calls.append(number)
        if outcome is not None:
            raise outcome

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGCHLD)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        signal.signal(signal.SIGUSR2, submitit)
        signal.signal(signal.SIGTERM, lambda *_: pytest.fail("the earlier SIGTERM handler was called"))
        signals = Signals()
        signals.listen()
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == {signal.SIGUSR2, signal.SIGTERM}
        assert calls == []
        signals.ignore_during_exit()
        signals.forward(signal.SIGUSR2)
        signals.restore()
        os.kill(os.getpid(), signal.SIGTERM)
        assert calls == [signal.SIGUSR2]
        assert signal.getsignal(signal.SIGUSR2) is submitit
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ("the SIGUSR2 handler raised Refused: no answer" in capsys.readouterr().err) == isinstance(outcome, Refused)


@pytest.mark.parametrize(("starts", "left"), [("0", ["7_0_result.pkl", "7_1_result.pkl"]), ("1", ["7_0_result.pkl"])])
def test_requeued_job_deletes_its_own_earlier_result(tmp_path, monkeypatch, starts, left):
    pytest.importorskip("submitit")
    for name in ("7_0_result.pkl", "7_1_result.pkl"):
        (tmp_path / name).touch()
    settings = {"SLURM_RESTART_COUNT": starts, "SLURM_JOB_ID": "7", "SLURM_PROCID": "1"}
    for name, value in {**settings, "SUBMITIT_EXECUTOR": "slurm", "SUBMITIT_FOLDER": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    forget_earlier_result()
    assert sorted(path.name for path in tmp_path.iterdir()) == left


@pytest.mark.parametrize(("tasks", "handler"), [(None, end), ("1", signal.SIG_IGN)])
@pytest.mark.parametrize("stage", ["test", "validate"])
def test_sigterm_after_training_ends_the_process_at_once(monkeypatch, tasks, handler, stage):
    """In a SLURM job SIGTERM is ignored, since SLURM ends the process."""
    if tasks is not None:
        monkeypatch.setenv("SLURM_NTASKS", tasks)
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("the earlier SIGTERM handler was called"))
    try:
        last = LastCheckpoint("unused", every=1)
        earlier = signal.getsignal(signal.SIGTERM)
        last.on_validation_start(SimpleNamespace(state=SimpleNamespace(fn="fit")), None)
        assert signal.getsignal(signal.SIGTERM) == earlier
        start = {"test": last.on_test_start, "validate": last.on_validation_start}[stage]
        start(SimpleNamespace(state=SimpleNamespace(fn=stage)), None)
        assert signal.getsignal(signal.SIGTERM) == handler
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("own", "others", "agreed"),
    [
        (set(), set(), None),
        (set(), {signal.SIGUSR2}, signal.SIGUSR2),
        ({signal.SIGTERM}, {signal.SIGUSR2}, signal.SIGUSR2),
        ({signal.SIGTERM, signal.SIGUSR2}, set(), signal.SIGUSR2),
        ({signal.SIGINT}, {signal.SIGTERM}, signal.SIGTERM),
    ],
)
def test_all_processes_agree_on_one_signal(monkeypatch, own, others, agreed):
    """Several processes agree one step later, since votes are read without waiting; a single one at once."""
    of_others = torch.tensor([number in others for number in Signals.by_priority]).int()
    monkeypatch.setattr(ranks, "max_all_reduce", lambda votes: votes.maximum(of_others))
    monkeypatch.setattr(ranks, "rank_and_world_size", lambda: (0, 2))
    last, trainer = LastCheckpoint("unused", every=1), SimpleNamespace(strategy=SimpleNamespace(root_device="cpu"))
    last.signals.received = own
    assert [last._agreed_signal(trainer), last._agreed_signal(trainer)] == [None, agreed]
    assert LastCheckpoint("unused", every=1)._agreed_signal(trainer, now=True) == (max(others) if others else None)
    monkeypatch.setattr(ranks, "rank_and_world_size", lambda: (0, 1))
    last.signals.received = own | others
    assert last._agreed_signal(trainer) == agreed
