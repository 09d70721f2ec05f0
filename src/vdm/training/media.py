"""Pictures in the loggers that can show them."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import lightning.pytorch as pl
from lightning.pytorch.loggers.logger import Logger
from PIL import Image


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
