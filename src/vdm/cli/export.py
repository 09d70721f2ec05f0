"""``vdm-export ckpt=… folder=…``: a trained model for use without Hydra and Lightning."""

import hashlib
import json
from pathlib import Path

from omegaconf import DictConfig

from vdm.bound import VariationalModel
from vdm.cli import command, screen
from vdm.cli.build import quiet, restore
from vdm.errors import InvalidInput
from vdm.pretrained import DESCRIPTION, FORMAT, WEIGHTS, Description, encoded
from vdm.training.files import write_atomically


def export(config: DictConfig) -> None:
    """Writes the weights, then their description, so that a folder with a description is complete; and reads both back."""
    quiet()
    folder = Path(config.folder)
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInput(f"{folder} is not empty: name a new folder")
    parts, checkpoint = restore(config.ckpt, config.ema, trust=config.trust)
    model = parts.task.evaluated
    weights = encoded(model.state_dict())
    description = Description(
        format=FORMAT,
        model=checkpoint.config["model"],
        event_shape=list(parts.data.event_shape),
        levels=checkpoint.config["levels"],
        weights="ema" if config.ema else "raw",
        sha256=hashlib.sha256(weights).hexdigest(),
        provenance={**checkpoint.provenance, "checkpoint": str(checkpoint.path), "step": checkpoint.step},
    )
    description = description._replace(own_sha256=description.digest())
    write_atomically(folder / WEIGHTS, weights)
    write_atomically(folder / DESCRIPTION, (json.dumps(description._asdict(), indent=2) + "\n").encode())
    kind = type(VariationalModel.from_pretrained(folder, config.trust)).__name__
    python = [f"from vdm.models import {kind}", f'model = {kind}.from_pretrained("{screen.near(folder)}")']
    size = f"{len(weights) / 2**20:.1f} MiB, {description.weights} weights of step {checkpoint.step}"
    screen.show(screen.listing(f"{screen.near(folder)}: {size}", python))


def main() -> None:
    command.run("export", export, {"ckpt": str, "folder": str, "ema": bool})
