"""Compute budget: a limit on the time spent in training steps."""

import time
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from vdm.errors import InvalidInput
from vdm.evaluation.ranks import LaggedAllReduce


class CpuTime(Callback):
    """Measure the CPU-seconds that this process spends in training steps, and stop training at a limit.

    A step is loss, backward pass, optimiser and EMA. Data loading, validation, images and checkpoints are excluded. The
    total is part of checkpoints. On an accelerator it is wall-clock seconds, called ``gpu_seconds``: each step waits for the
    previous one.

    Args:
        seconds: the limit, null for none. The first process to reach it stops all: a single process after that step, several
            after the next one.

    Raises:
        InvalidInput: ``seconds`` not positive.
    """

    def __init__(self, seconds: float | None = None) -> None:
        if seconds is not None and not seconds > 0:
            raise InvalidInput(f"seconds must be positive, got {seconds}: use null for no limit")
        self.seconds, self.used = seconds, 0.0
        self.unit, self._clock = "cpu_seconds", time.process_time
        self._start, self._votes = 0.0, LaggedAllReduce()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._votes.forget()
        if pl_module.device.type != "cpu":
            self.unit, self._clock = "gpu_seconds", time.perf_counter

    def on_train_batch_start(self, *_: Any) -> None:
        self._start = self._clock()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.used += self._clock() - self._start
        if self.seconds is not None:
            reached = torch.tensor(self.used >= self.seconds, dtype=torch.int)
            trainer.should_stop |= bool(self._votes.exchange(reached, trainer.strategy.root_device))

    def state_dict(self) -> dict[str, float]:
        return {"used": self.used}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.used = state_dict["used"]
