"""What the Trainer adds to every checkpoint, and how it writes the file."""

from io import BytesIO
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO

from vdm.runs.checkpoints import FORMAT, KEY, read_content
from vdm.runs.files import write_atomically


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write to a temporary file and rename it, so that a crash during a save leaves the earlier checkpoint intact."""

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_content(Path(path))

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(Path(path), buffer.getvalue())


class CheckpointMetadata(Callback):
    """Add format version, resolved config and provenance to every checkpoint."""

    def __init__(self, config: dict[str, Any], provenance: dict[str, Any]) -> None:
        self.content = {"format": FORMAT, "config": config, "provenance": provenance}

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = self.content
