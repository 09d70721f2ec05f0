"""A budget of compute: the time of training steps, the same for every model whatever its steps cost."""

import time
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from vdm.errors import InvalidInput
from vdm.evaluation.ranks import LaggedAllReduce


class CpuTime(Callback):
    """Counts the CPU-seconds of this process inside training steps, and stops at a limit if there is one.

    A step is loss, backward, optimiser and average. Validation, pictures and checkpoints are not counted, nor is putting the
    batch together, which takes 0.02 to 0.2 ms of data in memory. The count is kept in checkpoints. On an accelerator it is
    GPU-seconds: those on the clock, since a step waits for the one before.

    Args:
        seconds: the limit, of the process that reaches it first; null for none. All stop after the same step, which with
            several is the one after it was reached.
    """

    def __init__(self, seconds: float | None = None) -> None:
        if seconds is not None and not seconds > 0:
            raise InvalidInput(f"the limit in seconds must be positive, got {seconds}; null for none")
        self.seconds, self.used = seconds, 0.0
        self.unit, self._clock = "cpu_seconds", time.process_time
        self._start: float | None = None
        self._votes = LaggedAllReduce()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._votes.forget()
        if pl_module.device.type != "cpu":
            self.unit, self._clock = "gpu_seconds", time.perf_counter

    def on_train_batch_start(self, *_: Any) -> None:
        self._start = self._clock()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        assert self._start is not None
        self.used += self._clock() - self._start
        if self.seconds is not None:
            reached = torch.tensor(self.used >= self.seconds, dtype=torch.int)
            trainer.should_stop |= bool(self._votes.exchange(reached, trainer.strategy.root_device))

    def state_dict(self) -> dict[str, float]:
        return {"used": self.used}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.used = state_dict["used"]
