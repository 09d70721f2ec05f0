"""What the Trainer adds to every checkpoint, and how it writes the file."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO

from vdm.runs.checkpoints import FORMAT, KEY, check_own, read_content
from vdm.runs.files import write_atomically


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write to a temporary file and rename it, so that a crash during a save leaves the earlier checkpoint intact.

    Args:
        own: what this run writes into its checkpoints; with a ``run_id``, those of other runs are not read.
    """

    def __init__(self, own: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.own = {} if own is None else own

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        content = read_content(Path(path))
        check_own(Path(path), content[KEY].get("run_id"), self.own.get("run_id"))
        return content

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
