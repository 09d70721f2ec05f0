"""The folder of one run, and writing into it so that no half-written file is taken for a whole one."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile

from omegaconf import DictConfig, OmegaConf

from vdm.errors import InvalidInput


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside ``path``, then rename: the file is the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


class RunFolder:
    """config.yaml, checkpoints/, pictures/, metrics.csv and metrics.json of one run."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.config = self.root / "config.yaml"
        self.checkpoints = self.root / "checkpoints"
        self.pictures = self.root / "pictures"
        self.curves = self.root / "metrics.csv"
        self.metrics = self.root / "metrics.json"

    def begin(self, config: DictConfig) -> None:
        """Claim the folder and keep the resolved config.

        Raises:
            InvalidInput: another run's result is there.
        """
        if self.metrics.exists():
            raise InvalidInput(f"{self.root} holds an earlier run's result: choose another hydra.run.dir=, or remove it")
        write_atomically(self.config, OmegaConf.to_yaml(config, resolve=True).encode())

    def write_metrics(self, metrics: Mapping[str, object]) -> None:
        """metrics.json, whole or not at all."""
        write_atomically(self.metrics, (json.dumps(metrics, indent=2) + "\n").encode())
