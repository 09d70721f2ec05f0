"""Progress bars over training and evaluation, and lines in their place where the output is not a terminal."""

import sys
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from tqdm.auto import tqdm

from vdm.bars import SHARE, counting_bar
from vdm.evaluation import BoundEvaluation

LINE_EVERY_S = 30.0  # between lines in a log


class Progress(Callback):
    """Show the steps with loss, learning rate, the last validation's bound and the time left; likewise the evaluation.

    Bars go to standard error. Where that is a file or a pipe, training prints a line now and then instead.
    """

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._step_words = self._validated = ""
        self._shown = 0.0  # when the numbers were read, which waits for the device
        self._evaluation: BoundEvaluation | None = None
        self._batches = 0  # that the evaluation has finished

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._open(trainer, "training", int(trainer.estimated_stepping_batches), trainer.global_step, unit="step")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        bar = self._bar
        if bar is None:
            return
        bar.update(trainer.global_step - bar.n)
        interval = LINE_EVERY_S if bar.disable else 1.0
        if time.monotonic() - self._shown >= interval:
            self._shown = time.monotonic()
            self._step_words = _numbers(trainer, outputs)
            self._show(trainer, bar)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = trainer.callback_metrics.get("val/bits_per_dim")
        if self._bar is None or value is None:
            return
        self._validated = f"validation {value:.3f} bits/dim"
        self._show(trainer, self._bar)

    def on_test_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._open(trainer, "evaluating", int(sum(trainer.num_test_batches)), 0, unit="batch", bar_format=SHARE)
        self._evaluation, self._batches = pl_module.test, 0
        self._evaluation.progress = self._evaluated

    def on_test_batch_end(self, *_: Any) -> None:
        self._batches += 1

    def _evaluated(self, share: float) -> None:
        """Move the bar to ``share`` of the current batch, whose replicates take most of an evaluation."""
        if self._bar is not None:
            self._bar.update(self._batches + share - self._bar.n)

    def _open(self, trainer: pl.Trainer, title: str, total: int, done: int, **form: str) -> None:
        self._close()
        if trainer.is_global_zero:
            self._bar = counting_bar(title, total, initial=done, **form)
            self._bar.total = total

    def _show(self, trainer: pl.Trainer, bar: tqdm) -> None:
        words = ", ".join(filter(None, [self._step_words, self._validated]))
        bar.set_postfix_str(words)
        if bar.disable:
            print(f"step {trainer.global_step} of {bar.total}: {words}", file=sys.stderr, flush=True)

    def _close(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if self._evaluation is not None:
            self._evaluation.progress = None
            self._evaluation = None

    on_train_end = on_test_end = on_exception = _close  # type: ignore[assignment]


def _numbers(trainer: pl.Trainer, outputs: Any) -> str:
    """Return loss, bits/dim of the batch, and learning rate in words."""
    rates = [f"lr {group['lr']:.1e}" for optimizer in trainer.optimizers[:1] for group in optimizer.param_groups[:1]]
    bits = outputs["bound"].terms()["bits_per_dim"].detach().float().mean().item()
    return ", ".join([f"loss {outputs['loss'].detach().item():.3g}", f"{bits:.2f} bits/dim", *rates])
