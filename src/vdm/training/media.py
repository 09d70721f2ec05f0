"""Pictures in the run's folder, and in the loggers that can show them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers.logger import Logger
from PIL import Image

from vdm.bound import VariationalModel
from vdm.data import InMemoryData


class PictureLogger(Logger, ABC):
    """A logger that shows pictures beside the numbers."""

    @abstractmethod
    def log_picture(self, name: str, picture: Image.Image, step: int) -> None:
        """Keep an RGB picture under ``name``, after ``step`` optimiser steps."""


def show(trainer: pl.Trainer, name: str, draw: Callable[[], Image.Image]) -> None:
    """Give every logger of pictures one, at the number of optimiser steps taken; drawn only if there is such a logger."""
    takers = [logger for logger in trainer.loggers if isinstance(logger, PictureLogger)]
    if takers and trainer.is_global_zero:
        picture = draw().convert("RGB")
        for logger in takers:
            logger.log_picture(name, picture, trainer.global_step)


def keep(trainer: pl.Trainer, path: Path, name: str, picture: Image.Image) -> None:
    """Write a picture to ``path``, and ``show`` it as pictures/``name``; for the process that writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    show(trainer, f"pictures/{name}", lambda: picture)


class FinalPictures(Callback, ABC):
    """Pictures of the evaluated model, of a run whose result is already kept: no picture can cost it.

    Args:
        folder: where they go.
        seed: of the draws.
    """

    def __init__(self, folder: str, seed: int = 0) -> None:
        self.folder, self.seed = Path(folder), seed

    @abstractmethod
    def draw(self, model: VariationalModel, data: InMemoryData) -> dict[str, Image.Image]:
        """By name; none of a model or of data that they are not for."""

    def keep(self, trainer: pl.Trainer, model: VariationalModel, data: InMemoryData) -> None:
        """Draw them into the folder and for the loggers; for the process that writes."""
        for name, picture in self.draw(model, data).items():
            keep(trainer, self.folder / f"{name}.png", name, picture)
