"""How long a run is announced to be, and why it was shorter."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping, Timer

from vdm.errors import InvalidInput
from vdm.training.callbacks.cpu_time import CpuTime


def announced(trainer: pl.Trainer) -> str:
    """Return how long the run will be, in words."""
    steps = [f"{trainer.max_steps} steps"] if trainer.max_steps >= 0 else []
    epochs = [f"{trainer.max_epochs} epochs"] if (trainer.max_epochs or 0) > 0 else []
    return ", at most ".join(steps + epochs)


def why_short(trainer: pl.Trainer) -> str | None:
    """Return why training ended before all of its steps were taken; None if it did not.

    Raises:
        InvalidInput: no step was taken, so that there is no result.
    """
    taken = trainer.global_step
    steps = trainer.max_steps if trainer.max_steps >= 0 else int(trainer.estimated_stepping_batches)
    if taken >= steps:
        return None
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    why = next(filter(None, map(_reason, callbacks)), None)
    if why is None:
        over = 0 < (trainer.max_epochs or 0) <= trainer.current_epoch
        why = f"trainer.max_epochs={trainer.max_epochs}" if over else "no setting that vdm knows; perhaps a callback"
    if not taken:
        raise InvalidInput(f"none of {steps} steps was taken, which {why} ended: there is no result; train for longer")
    return f"training took {taken} of {steps} steps, which {why} ended"


def _reason(callback: Any) -> str | None:
    """Return the setting of ``callback`` that ended training, if it was one of its."""
    if isinstance(callback, Timer):
        left = callback.time_remaining()
        return "trainer.max_time" if left is not None and left <= 0 else None
    if isinstance(callback, EarlyStopping):
        stopped = callback.stopped_epoch or callback.wait_count >= callback.patience  # the epoch may be 0
        return f"early stopping on {callback.monitor}" if stopped else None
    if isinstance(callback, CpuTime):
        used_up = callback.seconds is not None and callback.used >= callback.seconds
        return f"callbacks.cpu_time.seconds={callback.seconds:g}" if used_up else None
    return None
