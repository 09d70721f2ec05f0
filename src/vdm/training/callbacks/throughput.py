"""How fast training goes, and which part of the machine's speed that is."""

import time
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.flop_counter import FlopCounterMode

from vdm.batch import Batch
from vdm.draws import Draws
from vdm.errors import at_least
from vdm.networks import Backbone
from vdm.training.loggers.base import log_metrics
from vdm.training.task import VariationalTask

BACKWARD = 2
"""FLOPs of a backward pass, in forward passes: each product of matrices has two of its kind in its derivative."""


class Throughput(Callback):
    """Logs ``throughput/steps_per_second`` and ``throughput/examples_per_second`` of all processes together.

    The clock runs over whole steps, the wait for data among them, and stands still in validation, pictures and
    checkpoints that belong to it. With ``utilisation`` it also logs ``throughput/flops_per_second`` of one process and,
    as ``throughput/utilisation``, its ratio to ``measured_peak``: FLOPs are those of matrix products, convolutions and
    attention in one forward pass, times 3 for the backward pass, counted on the averaged model before the first step.

    Args:
        every: steps between two reports.
        utilisation: whether to count and measure; it takes a second or so.
    """

    def __init__(self, every: int = 100, utilisation: bool = False) -> None:
        at_least(1, every=every)
        self.every, self.utilisation = every, utilisation
        self._flops = self._peak = 0.0
        self._seconds, self._batches, self._step = 0.0, 0, 0
        self._since: float | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._seconds, self._batches, self._step, self._since = 0.0, 0, trainer.global_step, None

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: VariationalTask, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
        if self.utilisation and not self._peak:
            with trainer.precision_plugin.forward_context():
                self._flops = (1 + BACKWARD) * forward_flops(pl_module, batch)
                self._peak = measured_peak(pl_module.device, precision(pl_module))
            self._since = None
        if self._since is None:
            self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self._pause()
        self._since = time.perf_counter()
        self._batches += 1
        steps = trainer.global_step - self._step
        if trainer.global_step % self.every or not steps:
            return
        examples = self._batches * len(batch.x) * trainer.world_size
        metrics = {
            "throughput/steps_per_second": steps / self._seconds,
            "throughput/examples_per_second": examples / self._seconds,
        }
        if self.utilisation:
            achieved = self._flops * self._batches / self._seconds
            metrics |= {"throughput/flops_per_second": achieved, "throughput/utilisation": achieved / self._peak}
        log_metrics(trainer, metrics)
        self._seconds, self._batches, self._step = 0.0, 0, trainer.global_step

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._pause()

    def _pause(self) -> None:
        if self._since is not None:
            self._seconds += time.perf_counter() - self._since
            self._since = None


@torch.no_grad()
def forward_flops(task: VariationalTask, batch: Batch) -> int:
    """Of one training loss of ``batch``; the averaged model does the work, in evaluation mode and with draws of its own."""
    with FlopCounterMode(display=False) as counter:
        task.evaluated.loss(batch, Draws())
    return counter.get_total_flops()


def precision(task: VariationalTask) -> torch.dtype:
    """What the networks' bodies run in: their own low precision, or the Trainer's."""
    low = (part.low_precision for part in task.model.modules() if isinstance(part, Backbone))
    device = task.device.type
    given = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.get_default_dtype()
    return next(filter(None, low), given)


@torch.no_grad()
def measured_peak(device: torch.device, dtype: torch.dtype, least_seconds: float = 0.1) -> float:
    """FLOP/s of a product of two square matrices of ``dtype``: the best of three, 2n³ each.

    n doubles from 512 until one product takes ``least_seconds``, or to 16384.
    """
    n, best = 512, 0.0
    while True:
        a = torch.randn(n, n, device=device).to(dtype)  # equal numbers would cost a GPU less power
        times = []
        for _ in range(3):
            start = time.perf_counter()
            (a @ a)[0, 0].item()
            times.append(time.perf_counter() - start)
        best = max(best, 2 * n**3 / min(times))
        if min(times) >= least_seconds or n >= 16384:
            return best
        n *= 2
