"""Base classes of loggers, and functions through which callbacks log metrics and images."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from vdm.runs.files import write_png
from vdm.runs.folder import RunIdentity


class LocalLogger(Logger, ABC):
    """Logger that writes into the run's own folder, next to config.yaml."""

    name = version = ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Do nothing: config.yaml has them."""


class ImageLogger(Logger, ABC):
    """Logger that takes images as well as metrics."""

    @abstractmethod
    def log_image(self, name: str, image: Image.Image, step: int) -> None:
        """Log an RGB image as ``name``, after ``step`` optimiser steps."""


class RunLogger(Logger, ABC):
    """A logger that needs the run's identity, which is known when the run starts."""

    identity = RunIdentity()

    def start(self, identity: RunIdentity) -> None:
        """Take the identity, before the first metric; on rank 0."""
        self.identity = identity


def log_metrics(trainer: pl.Trainer, metrics: dict[str, float]) -> None:
    """Log metrics with every logger, at the number of optimiser steps taken; rank 0 only."""
    if trainer.is_global_zero:
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)


def log_image(trainer: pl.Trainer, name: str, draw: Callable[[], Image.Image]) -> None:
    """Log an image with every ``ImageLogger``, at the number of optimiser steps taken; rank 0 only.

    ``draw`` is called only if there is such a logger.
    """
    loggers = [logger for logger in trainer.loggers if isinstance(logger, ImageLogger)]
    if loggers and trainer.is_global_zero:
        image = draw().convert("RGB")
        for logger in loggers:
            logger.log_image(name, image, trainer.global_step)


def save_image(trainer: pl.Trainer, path: Path, name: str, image: Image.Image) -> None:
    """Save an image to ``path``, and log it as ``pictures/{name}``; call it in rank 0 only."""
    write_png(path, image)
    log_image(trainer, f"pictures/{name}", lambda: image)
