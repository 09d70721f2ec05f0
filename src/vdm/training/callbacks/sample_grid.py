"""Grids of samples during training."""

from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from vdm.data import DataModule
from vdm.errors import at_least
from vdm.evaluation.samples.images import draw_samples
from vdm.training.loggers.base import save_image
from vdm.training.task import VariationalTask


class SampleGrid(Callback):
    """Save a grid of ``n`` samples, drawn from the same noise each time, at every ``every``-th validation.

    Raises:
        InvalidInput: ``n`` or ``every`` below 1.
    """

    def __init__(self, folder: str, n: int = 64, every: int = 5, seed: int = 0) -> None:
        at_least(1, n=n, every=every)
        self.folder, self.n, self.every, self.seed = Path(folder), n, every, seed
        self.validations = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        self.validations += 1
        if self.validations % self.every == 0 and trainer.is_global_zero:
            data: DataModule = trainer.datamodule  # type: ignore[attr-defined]
            image = draw_samples(pl_module.evaluated, data, self.n, self.seed)
            save_image(trainer, self.folder / f"samples_step_{trainer.global_step:07d}.png", "samples", image)

    def state_dict(self) -> dict[str, int]:
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.validations = state_dict["validations"]
