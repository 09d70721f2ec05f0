"""The last checkpoint of a run: written regularly, and when a signal arrives."""

import signal
import sys
from contextlib import suppress
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Checkpoint

from vdm.errors import at_least
from vdm.evaluation.ranks import LaggedAllReduce
from vdm.training.signals import Signals


class LastCheckpoint(Checkpoint):
    """Keeps one checkpoint from which a run that was stopped goes on as if it had not been.

    It is written after every ``every``-th optimiser step, at the end, whatever ends the run, and when a signal came: at the
    end of a step, after the validation that belongs to it, so that no validation is lost or repeated. Then all processes
    leave together: on submitit's signal the job is queued again; on SIGTERM and SIGINT the status is 128 + signal (143,
    130). In a job of SLURM a SIGTERM only saves: SLURM sends it ahead of the end that it puts to the job itself (a
    pre-emption's time of grace, ``scontrol requeue``, ``scancel``), and does not start again a job that left by itself.

    Args:
        path: of the checkpoint, which is overwritten.
        every: steps between two saves: what ``kill -9`` can cost.

    Raises:
        InvalidInput: ``every`` below 1.
    """

    def __init__(self, path: str, every: int) -> None:
        at_least(1, every=every)
        self.path, self.every = path, int(every)
        self.signals = Signals()
        self._step = self._saved = 0
        self._votes = LaggedAllReduce()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._step = self._saved = trainer.global_step
        self._votes.forget()
        self.signals.listen()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        loop = trainer.fit_loop
        if not loop.epoch_loop._should_check_val_fx(loop._data_fetcher):  # type: ignore[arg-type]
            self._conclude_step(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._conclude_step(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step != self._saved:
            trainer.save_checkpoint(self.path)
        self._obey(trainer, self._told(trainer, now=True))
        self.signals.restore()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != "fit":
            self.on_test_start(trainer, pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Nothing is left to save, and submitit hears its signal itself; Lightning's SIGTERM waits for other processes."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN if SLURMEnvironment.detect() else signal.SIG_DFL)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.signals.restore()

    def _conclude_step(self, trainer: pl.Trainer) -> None:
        step = trainer.global_step
        if step == self._step:  # gradients are still being accumulated
            return
        self._step = step
        told = self._told(trainer)
        if told or trainer.should_stop or step % self.every == 0 or step == trainer.max_steps:
            trainer.save_checkpoint(self.path)
            self._saved = step
        self._obey(trainer, told)

    def _obey(self, trainer: pl.Trainer, told: signal.Signals | None) -> None:
        """Leave, now that all is saved, or go on where SLURM will end the job."""
        if told and trainer.is_global_zero:
            print(f"{told.name} at step {trainer.global_step}: saved {self.path}", file=sys.stderr)
        if told == signal.SIGTERM and SLURMEnvironment.detect():
            self.signals.received.discard(told)
            self._votes.forget()  # it tells of the same signal
        elif told:
            self._leave(trainer, told)

    def _told(self, trainer: pl.Trainer, now: bool = False) -> signal.Signals | None:
        """The signal to obey, the same in all processes, whichever of them it has reached.

        Several processes obey what had reached them a step ago, or at the end ``now``.
        """
        own = torch.tensor([number in self.signals.received for number in Signals.by_weight], dtype=torch.int)
        heard = self._votes.exchange(own, trainer.strategy.root_device, now)
        return next((number for number, told in zip(Signals.by_weight, heard.tolist(), strict=True) if told), None)

    def _leave(self, trainer: pl.Trainer, told: signal.Signals) -> None:
        """``SystemExit``: an exception or a return would tell submitit that the job has ended."""
        self.signals.shut_out()
        if trainer.is_global_zero and told in Signals.handed_on:
            self.signals.hand_on(told)
        with suppress(RuntimeError):  # where SLURM has already ended the others
            trainer.strategy.barrier()
        raise SystemExit(128 + told)
