"""Small runs of vdm-train, complete or stopped."""

import sys

import pytest
from lightning.pytorch.callbacks import Callback

from vdm.cli import train
from vdm.runs.tables import read_rows

STEPS = 30
SMALL = (
    "trainer.accelerator=cpu",
    f"trainer.max_steps={STEPS}",
    "trainer.val_check_interval=7",
    "data.batch_size=64",
    "model.denoiser.network.channels=8",
    "model.denoiser.network.blocks=1",
    "model.sampling.steps=2",
    "callbacks.sample_grid.every=100",
    "callbacks.bound_terms.every=4",
    "callbacks.gradient_noise.every=3",
    "callbacks.throughput.every=5",
    "callbacks.last.every=5",
    "validation.repeats=2",
    "test.repeats=2",
)


def vdm_train(folder, *overrides):
    """Call the command in this process, and return its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vdm-train", *SMALL, f"hydra.run.dir={folder}", *overrides])
        try:
            train.main()
        except SystemExit as end:
            return end.code
    return 0


def logged(folder):
    """Return the rows of metrics.csv without throughput."""
    return [{k: v for k, v in row.items() if "throughput" not in k} for row in read_rows(folder / "metrics.csv")[1]]


class Killed(BaseException):
    """Stands in for SIGKILL: nothing handles it, so nothing is saved."""


class Stop(Callback):
    """Call ``action`` in the hook ``moment`` at ``step``."""

    def __init__(self, step, moment, action):
        self.step, self.action = step, action
        setattr(self, moment, self._act)

    def _act(self, trainer, *_, **__):
        if trainer.global_step == self.step:
            self.action()


def kill():
    raise Killed


def stopped_run(folder, monkeypatch, step, moment, action, *overrides):
    """Run vdm-train until ``action`` stops it, and return its exit status, None if it was killed."""
    build = train.CheckpointMetadata

    def metadata_and_stop(*arguments):
        stop = Stop(step, moment, action)
        stop.content = None
        original = build(*arguments)
        stop.content, stop.on_save_checkpoint = original.content, original.on_save_checkpoint
        return stop

    with monkeypatch.context() as patch:
        patch.setattr(train, "CheckpointMetadata", metadata_and_stop)
        try:
            return vdm_train(folder, *overrides)
        except Killed:
            return None


MOMENTS = ("on_train_batch_end", "on_validation_end", "on_before_optimizer_step")
