"""Base class for images that are drawn after a run's result is written."""

from abc import ABC, abstractmethod
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from PIL import Image

from vdm.bound import VariationalModel
from vdm.data import DataModule
from vdm.training.loggers.base import save_image


class FinalImages(Callback, ABC):
    """Draw images of the EMA model after metrics.json is written, so that a failure here cannot lose the result."""

    def __init__(self, folder: str, seed: int = 0) -> None:
        self.folder, self.seed = Path(folder), seed

    @abstractmethod
    def draw(self, model: VariationalModel, data: DataModule) -> dict[str, Image.Image]:
        """Return images by name; empty if the model or the data are of another kind."""

    def save(self, trainer: pl.Trainer, model: VariationalModel, data: DataModule) -> None:
        """Draw the images and pass them to the folder and the loggers; call it in rank 0 only."""
        for name, image in self.draw(model, data).items():
            save_image(trainer, self.folder / f"{name}.png", name, image)
