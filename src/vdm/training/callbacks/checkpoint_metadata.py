"""Format version, config and provenance in every checkpoint."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from vdm.runs.checkpoints import FORMAT, KEY


class CheckpointMetadata(Callback):
    """Add format version, resolved config and provenance to every checkpoint."""

    def __init__(self, config: dict[str, Any], provenance: dict[str, Any]) -> None:
        self.content = {"format": FORMAT, "config": config, "provenance": provenance}

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = self.content
