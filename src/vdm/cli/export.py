"""``vdm-export ckpt=… folder=…``: a trained model for use without Hydra and Lightning."""

from pathlib import Path

from omegaconf import DictConfig

import vdm
from vdm.cli import command
from vdm.errors import InvalidInput
from vdm.reports import console
from vdm.runs.exported import FORMAT, Description, write_exported
from vdm.runs.load import load_run
from vdm.training.signals import ending


def export(config: DictConfig) -> None:
    """Write the model into a new folder, read it back, and print how to load it."""
    folder = Path(config.folder)
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInput(f"{folder} is not empty: name a new folder")
    run = load_run(config.ckpt, config.ema, trust=config.trust)
    checkpoint = run.checkpoint
    description = Description(
        format=FORMAT,
        model=checkpoint.config["model"],
        event_shape=list(run.data.event_shape),
        levels=run.levels,
        weights=run.weights,
        sha256="",
        provenance={**checkpoint.provenance, "checkpoint": str(checkpoint.path), "step": checkpoint.step},
    )
    size = write_exported(folder, run.model, description)
    kind = type(vdm.load(folder, config.trust)).__name__
    python = [f"from vdm.models import {kind}", f'model = {kind}.from_pretrained("{console.short_path(folder)}")']
    heading = f"{console.short_path(folder)}: {size / 2**20:.1f} MiB, {run.weights} weights of step {checkpoint.step}"
    console.show(console.listing(heading, python))


def main() -> None:
    with ending():
        command.run("export", export, {"ckpt": str, "folder": str, "ema": bool})
