"""``vdm-export ckpt=… folder=…``: a trained model for use without Hydra and Lightning."""

import hashlib
import json
from pathlib import Path

from omegaconf import DictConfig

import vdm
from vdm.cli import command
from vdm.cli.build import restore
from vdm.cli.command import quiet
from vdm.errors import InvalidInput
from vdm.reports import console
from vdm.runs.exported import DESCRIPTION, FORMAT, WEIGHTS, Description, encoded
from vdm.runs.files import write_atomically


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
    kind = type(vdm.load(folder, config.trust)).__name__
    python = [f"from vdm.models import {kind}", f'model = {kind}.from_pretrained("{console.near(folder)}")']
    size = f"{len(weights) / 2**20:.1f} MiB, {description.weights} weights of step {checkpoint.step}"
    console.show(console.listing(f"{console.near(folder)}: {size}", python))


def main() -> None:
    command.run("export", export, {"ckpt": str, "folder": str, "ema": bool})
