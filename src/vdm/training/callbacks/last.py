"""The checkpoint to resume from, saved periodically and when a signal arrives."""

import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Checkpoint
from tqdm.auto import tqdm

from vdm.errors import at_least
from vdm.evaluation.ranks import LaggedAllReduce
from vdm.training.signals import Signals, end


class LastCheckpoint(Checkpoint):
    """Save one checkpoint from which a stopped run resumes as if it had not been stopped.

    It is saved after every ``every``-th optimiser step, at the end of training, and at the end of the step in which a signal
    arrived. If a validation follows that step, it is saved after the validation, so that none is lost or repeated. After a
    signal all processes exit together: submitit's signal requeues the job, SIGTERM and SIGINT exit with status 128 + signal
    (143, 130). In a SLURM job SIGTERM only saves: SLURM sends it before it ends the job itself (a pre-emption's grace time,
    ``scontrol requeue``, ``scancel``), and does not restart a job that exits by itself.

    Args:
        path: checkpoint file, overwritten by every save.
        every: steps between two saves, the most that ``kill -9`` can lose.

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
            self._finish_step(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._finish_step(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step != self._saved:
            trainer.save_checkpoint(self.path)
        self._act_on(trainer, self._agreed_signal(trainer, now=True))
        self.signals.restore()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != "fit":
            self.on_test_start(trainer, pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let SIGTERM end the process at once, in a SLURM job leave that to SLURM: nothing remains to be saved."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN if SLURMEnvironment.detect() else end)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.signals.restore()

    def _finish_step(self, trainer: pl.Trainer) -> None:
        step = trainer.global_step
        if step == self._step:  # gradients are still being accumulated
            return
        self._step = step
        number = self._agreed_signal(trainer)
        if number or trainer.should_stop or step % self.every == 0 or step == trainer.max_steps:
            trainer.save_checkpoint(self.path)
            self._saved = step
        self._act_on(trainer, number)

    def _agreed_signal(self, trainer: pl.Trainer, now: bool = False) -> signal.Signals | None:
        """Return the signal to act on, the same in all processes even if only one received it.

        With several processes it is one received before the previous call; with ``now``, before this one.
        """
        received = torch.tensor([number in self.signals.received for number in Signals.by_priority], dtype=torch.int)
        votes = self._votes.exchange(received, trainer.strategy.root_device, now)
        return next((number for number, vote in zip(Signals.by_priority, votes.tolist(), strict=True) if vote), None)

    def _act_on(self, trainer: pl.Trainer, number: signal.Signals | None) -> None:
        """Exit after the save; keep training after SIGTERM in a SLURM job, which SLURM will end."""
        if number and trainer.is_global_zero:
            folder = Path(self.path).parents[1]
            tqdm.write(  # on a line of its own, above the bar
                f"{number.name} at step {trainer.global_step}: saved {self.path}; to resume, repeat the command with "
                f"resume=true hydra.run.dir={folder}",
                file=sys.stderr,
            )
        if number == signal.SIGTERM and SLURMEnvironment.detect():
            self.signals.received.discard(number)
            self._votes.forget()  # votes under way are about the same signal
        elif number:
            self._exit(trainer, number)

    def _exit(self, trainer: pl.Trainer, number: signal.Signals) -> None:
        """Raise SystemExit, the one ending that submitit does not take for the job's result."""
        self.signals.ignore_during_exit()
        if trainer.is_global_zero and number in Signals.forwarded:
            self.signals.forward(number)
        with suppress(RuntimeError):  # SLURM may already have ended the other processes
            trainer.strategy.barrier()
        raise SystemExit(128 + number)
