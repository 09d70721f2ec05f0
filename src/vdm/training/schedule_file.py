"""The noise schedule as it is learned, kept in a file of the run."""

from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from vdm.draws import scalar_dtype
from vdm.figures import Curve, schedule_figure
from vdm.gamma import event_mean, snr
from vdm.models import VDM
from vdm.pictures import rendered
from vdm.profile import LossFollower
from vdm.training.callbacks import record
from vdm.training.media import show
from vdm.training.metrics_file import append_rows, cut_back, read_rows
from vdm.training.module import VariationalTask

COLUMNS = ("step", "t", "gamma", "snr")
POINTS = 33
"""Times of one curve, evenly from 0 to 1."""


class ScheduleFile(Callback):
    """Writes γ(t) and SNR(t) = exp(−γ) of the averaged model: at the start, and if they move at every validation.

    Where γ has one value a dimension, its mean over the dimensions. Models without a schedule leave no file.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_train_start(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        if trainer.is_global_zero and isinstance(pl_module.model, VDM):
            cut_back(self.path, trainer.global_step or -1)
            if not trainer.global_step:
                self._write(trainer, pl_module.evaluated)  # type: ignore[arg-type]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        model = pl_module.evaluated
        if trainer.state.fn == "fit" and trainer.is_global_zero and isinstance(model, VDM):
            schedule = model.schedule
            if isinstance(schedule, LossFollower) or any(True for _ in schedule.parameters()):
                self._write(trainer, model)

    @torch.no_grad()
    def _write(self, trainer: pl.Trainer, model: VDM) -> None:
        device = next(model.parameters()).device
        t = torch.linspace(0, 1, POINTS, dtype=scalar_dtype(device), device=device)
        gamma = event_mean(model.schedule(t))
        rows = torch.stack([t, gamma, snr(gamma)], 1).tolist()
        append_rows(self.path, COLUMNS, [(trainer.global_step, *row) for row in rows])
        quarters = {f"schedule/gamma_{row[0]:.2f}": row[1] for row in rows[:: (POINTS - 1) // 4]}
        record(trainer, quarters)
        show(trainer, "schedule/gamma", lambda: rendered(schedule_figure({"": (t.tolist(), gamma.tolist())})))


def read_schedules(path: Path) -> dict[int, Curve]:
    """(times, γ) by step, in the order of training; empty if there is no file."""
    found: dict[int, tuple[list[float], list[float]]] = {}
    for row in read_rows(path)[1]:
        times, gammas = found.setdefault(int(row["step"]), ([], []))
        times.append(float(row["t"]))
        gammas.append(float(row["gamma"]))
    return dict(found)
