"""Profile of the denoising term over noise levels, during training."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from vdm.bound import Elbo
from vdm.draws import scalar_dtype
from vdm.errors import InvalidInput
from vdm.gamma import event_mean
from vdm.gamma_profile import GammaProfile, one_t_variance
from vdm.models import DiffusionModel
from vdm.plots.figures import profile_figure
from vdm.plots.images import render
from vdm.runs.tables import PROFILE_COLUMNS, append_rows, truncate_after
from vdm.terms import bits_per_dim
from vdm.training.loggers.base import log_image, log_metrics
from vdm.training.task import VariationalTask


class ProfileTable(Callback):
    """Bin the one-t estimates of training (rank 0, raw weights) by γ, and append the bins to a CSV file at each validation.

    One row per bin: step, bin edges in γ, number of draws since the last rows, their mean and variance; see
    ``vdm.gamma_profile``. It needs no network calls. Models without a one-t estimate write no file.

    Args:
        bins: number of equal bins between the schedule's ends, which are read at the first draw after each write.

    Raises:
        InvalidInput: ``bins`` below 1.
    """

    def __init__(self, path: str, bins: int = 20) -> None:
        if bins < 1:
            raise InvalidInput(f"a profile over γ needs at least 1 bin, got {bins}")
        self.path, self.bins = Path(path), bins
        self._profile: GammaProfile | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            truncate_after(self.path, trainer.global_step or -1)
        if self._profile is not None:
            self._profile = GammaProfile(*(part.to(pl_module.device) for part in (self._profile.ends, self._profile.sums)))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        if outputs["gamma_t"] is None:
            return
        bound: Elbo = outputs["bound"]
        gamma = event_mean(outputs["gamma_t"].detach())
        if self._profile is None:
            self._profile = GammaProfile.empty(_ends(pl_module).to(gamma), self.bins)
        self._profile.add(gamma, bits_per_dim(bound.denoising_matching.detach(), bound.dims))
        if trainer.global_step == trainer.max_steps:  # before the last checkpoint: a run resumed from it takes no steps
            self._write(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._write(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {} if self._profile is None else {"ends": self._profile.ends, "sums": self._profile.sums}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._profile = GammaProfile(**state_dict) if state_dict else None

    def _write(self, trainer: pl.Trainer) -> None:
        if self._profile is None:
            return
        bins, self._profile = self._profile.bins(), None
        if trainer.is_global_zero:
            append_rows(self.path, PROFILE_COLUMNS, [(trainer.global_step, *row) for row in bins])
            log_metrics(trainer, {"profile/one_t_variance": one_t_variance(bins)})
            log_image(trainer, "profile/by_gamma", lambda: render(profile_figure({"": bins})))


@torch.no_grad()
def _ends(task: VariationalTask) -> torch.Tensor:
    """Return γ at t = 0 and t = 1, shape (2,), averaged over dimensions."""
    model = task.model
    assert isinstance(model, DiffusionModel)
    return event_mean(model.schedule(torch.tensor([0.0, 1.0], dtype=scalar_dtype(task.device), device=task.device)))
