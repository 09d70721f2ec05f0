"""Atomic checkpoint files for the Trainer."""

from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from vdm.runs.checkpoints import read_content
from vdm.runs.files import write_atomically


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write to a temporary file and rename it, so that a crash during a save leaves the earlier checkpoint intact."""

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_content(Path(path))

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(Path(path), buffer.getvalue())
