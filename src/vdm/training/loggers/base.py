"""What callbacks give to loggers: metrics and images."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from vdm.runs.folder import RunIdentity


class LocalLogger(Logger, ABC):
    """A logger into the run's own folder, where the config stands beside it."""

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """They stand in config.yaml."""


class RunLogger(Logger, ABC):
    """A logger that needs the run's identity, which is known when the run starts."""

    identity = RunIdentity()

    def start(self, identity: RunIdentity) -> None:
        """Take the identity, before the first metric; on rank 0."""
        self.identity = identity


def log_metrics(trainer: pl.Trainer, metrics: dict[str, float]) -> None:
    """Give every logger the metrics, at the number of optimiser steps taken."""
    if trainer.is_global_zero:
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)


class ImageLogger(Logger, ABC):
    """A logger that shows pictures beside the numbers."""

    @abstractmethod
    def log_image(self, name: str, picture: Image.Image, step: int) -> None:
        """Keep an RGB picture under ``name``, after ``step`` optimiser steps."""


def log_image(trainer: pl.Trainer, name: str, draw: Callable[[], Image.Image]) -> None:
    """Give every logger of pictures one, at the number of optimiser steps taken; drawn only if there is such a logger."""
    takers = [logger for logger in trainer.loggers if isinstance(logger, ImageLogger)]
    if takers and trainer.is_global_zero:
        picture = draw().convert("RGB")
        for logger in takers:
            logger.log_image(name, picture, trainer.global_step)


def save_image(trainer: pl.Trainer, path: Path, name: str, picture: Image.Image) -> None:
    """Write a picture to ``path``, and ``show`` it as pictures/``name``; for the process that writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    log_image(trainer, f"pictures/{name}", lambda: picture)
