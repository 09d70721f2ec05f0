"""The noise schedule over training."""

from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from vdm.draws import scalar_dtype
from vdm.gamma import event_mean, snr
from vdm.models import DiffusionModel
from vdm.plots.figures import schedule_figure
from vdm.plots.images import render
from vdm.runs.tables import SCHEDULE_COLUMNS, append_rows, truncate_after
from vdm.training.loggers.base import log_image, log_metrics
from vdm.training.task import VariationalTask


class ScheduleTable(Callback):
    """Append γ(t) and SNR(t) = exp(−γ) of the EMA model to a CSV file: at the start, and at each validation if they change.

    γ is averaged over dimensions, at 33 evenly spaced times t in [0, 1]. Models without a schedule write no file.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_train_start(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        if trainer.is_global_zero and isinstance(pl_module.model, DiffusionModel):
            truncate_after(self.path, trainer.global_step or -1)
            if not trainer.global_step:
                self._write(trainer, pl_module.evaluated)  # type: ignore[arg-type]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        model = pl_module.evaluated
        fitting = trainer.state.fn == "fit" and trainer.is_global_zero
        if fitting and isinstance(model, DiffusionModel) and model.schedule.trainable:
            self._write(trainer, model)

    @torch.no_grad()
    def _write(self, trainer: pl.Trainer, model: DiffusionModel) -> None:
        device = next(model.parameters()).device
        t = torch.linspace(0, 1, 33, dtype=scalar_dtype(device), device=device)
        gamma = event_mean(model.schedule(t))
        rows = torch.stack([t, gamma, snr(gamma)], 1).tolist()
        append_rows(self.path, SCHEDULE_COLUMNS, [(trainer.global_step, *row) for row in rows])
        quarters = {f"schedule/gamma_{row[0]:.2f}": row[1] for row in rows[::8]}
        log_metrics(trainer, quarters)
        log_image(trainer, "schedule/gamma", lambda: render(schedule_figure({"": (t.tolist(), gamma.tolist())})))
