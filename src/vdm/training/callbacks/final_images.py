"""Images of the evaluated model, drawn after the result is written."""

from abc import ABC, abstractmethod
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from PIL import Image

from vdm.bound import VariationalModel
from vdm.data import DataModule
from vdm.training.loggers.base import save_image


class FinalImages(Callback, ABC):
    """Pictures of the evaluated model, of a run whose result is already kept: no picture can cost it.

    Args:
        folder: where they go.
        seed: of the draws.
    """

    def __init__(self, folder: str, seed: int = 0) -> None:
        self.folder, self.seed = Path(folder), seed

    @abstractmethod
    def draw(self, model: VariationalModel, data: DataModule) -> dict[str, Image.Image]:
        """By name; none of a model or of data that they are not for."""

    def save(self, trainer: pl.Trainer, model: VariationalModel, data: DataModule) -> None:
        """Draw them into the folder and for the loggers; for the process that writes."""
        for name, picture in self.draw(model, data).items():
            save_image(trainer, self.folder / f"{name}.png", name, picture)
