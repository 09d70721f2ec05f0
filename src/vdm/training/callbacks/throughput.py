"""Training speed and hardware utilisation."""

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


class Throughput(Callback):
    """Log ``throughput/steps_per_second`` and ``throughput/examples_per_second``, summed over all processes.

    Waiting for data counts; validations, with the images and checkpoints they trigger, do not. With ``utilisation`` it also
    logs ``throughput/flops_per_second`` of one process and, as ``throughput/utilisation``, its ratio to ``measured_peak``.
    FLOPs are those of matrix products, convolutions and attention in one forward pass, counted on the EMA model before
    the first step, times 3 to include the backward pass.

    Args:
        every: steps between two logged values.
        utilisation: count FLOPs and measure the peak, which takes about a second.

    Raises:
        InvalidInput: ``every`` below 1.
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
                self._flops = 3 * forward_flops(pl_module, batch)  # each product has two in its derivative
                self._peak = measured_peak(pl_module.device, precision(pl_module))
            self._since = None
        if self._since is None:
            self._since = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Batch, *_: Any) -> None:
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

    def _pause(self, *_: Any) -> None:
        if self._since is not None:
            self._seconds += time.perf_counter() - self._since
            self._since = None

    on_validation_start = _pause  # type: ignore[assignment]


@torch.no_grad()
def forward_flops(task: VariationalTask, batch: Batch) -> int:
    """Count the FLOPs of the loss of ``batch``, using the EMA model in evaluation mode and separate draws."""
    with FlopCounterMode(display=False) as counter:
        task.evaluated.loss(batch, Draws())
    return counter.get_total_flops()


def precision(task: VariationalTask) -> torch.dtype:
    """Return the dtype of the networks' trunks: their own low precision if set, else the Trainer's."""
    low = (part.low_precision for part in task.model.modules() if isinstance(part, Backbone))
    device = task.device.type
    default = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.get_default_dtype()
    return next(filter(None, low), default)


@torch.no_grad()
def measured_peak(device: torch.device, dtype: torch.dtype, min_seconds: float = 0.1) -> float:
    """Measure the peak FLOP/s of n × n matrix products in ``dtype``, 2n³ FLOPs each: the best of three.

    n doubles from 512 until one product takes ``min_seconds``, or n = 16384.
    """
    n, best = 512, 0.0
    while True:
        a = torch.randn(n, n, device=device).to(dtype)  # random: constant matrices would draw less power on a GPU
        times = []
        for _ in range(3):
            start = time.perf_counter()
            (a @ a)[0, 0].item()
            times.append(time.perf_counter() - start)
        best = max(best, 2 * n**3 / min(times))
        if min(times) >= min_seconds or n >= 16384:
            return best
        n *= 2
