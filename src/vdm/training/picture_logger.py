"""What a logger must be able to do to be given pictures."""

from abc import ABC, abstractmethod

from lightning.pytorch.loggers.logger import Logger
from PIL import Image


class PictureLogger(Logger, ABC):
    """A logger that shows pictures beside the numbers."""

    @abstractmethod
    def log_picture(self, name: str, picture: Image.Image, step: int) -> None:
        """Keep an RGB picture under ``name``, after ``step`` optimiser steps."""
