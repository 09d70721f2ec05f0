"""Pictures in the loggers that can show them."""

from collections.abc import Callable

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image


def show(trainer: pl.Trainer, name: str, draw: Callable[[], Image.Image]) -> None:
    """Give TensorBoard and W&B a picture, at the number of optimiser steps taken; drawn only if one of them is there."""
    takers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger | WandbLogger)]
    if not (takers and trainer.is_global_zero):
        return
    picture = draw().convert("RGB")
    for logger in takers:
        if isinstance(logger, WandbLogger):
            logger.log_image(name, [picture], step=trainer.global_step)
        else:
            logger.experiment.add_image(name, np.array(picture), trainer.global_step, dataformats="HWC")
