"""Progress bars over training and test."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from tqdm.auto import tqdm


class Progress(Callback):
    """Show a progress bar over the training steps with the last validation's bound, and one over the test batches."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._open(trainer, "training", int(trainer.estimated_stepping_batches), trainer.global_step, "step")

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._bar is not None:
            self._bar.update(trainer.global_step - self._bar.n)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = trainer.callback_metrics.get("val/bits_per_dim")
        if self._bar is not None and value is not None:
            self._bar.set_postfix_str(f"validation {value:.3f} bits/dim")

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._open(trainer, "evaluating", int(sum(trainer.num_test_batches)), 0, "batch")

    def on_test_batch_end(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.update()

    def _open(self, trainer: pl.Trainer, title: str, total: int, done: int, unit: str) -> None:
        self._close()
        if trainer.is_global_zero:
            self._bar = tqdm(total=total, initial=done, desc=title, unit=unit, dynamic_ncols=True, mininterval=0.5)

    def _close(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    on_train_end = on_test_end = on_exception = _close  # type: ignore[assignment]
