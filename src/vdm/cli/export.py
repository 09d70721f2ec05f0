"""``vdm-export ckpt=… folder=…``: a trained model for use without Hydra and Lightning, and on the Hugging Face Hub."""

from pathlib import Path

from omegaconf import DictConfig

import vdm
from vdm.cli import entry
from vdm.errors import InvalidInput
from vdm.reports import console
from vdm.reports.model_card import model_card, run_metrics
from vdm.runs import hub
from vdm.runs.exported import FORMAT, Description, write_exported
from vdm.runs.files import write_atomically
from vdm.runs.load import load_run


def export(config: DictConfig) -> None:
    """Write the model into a new folder, read it back, push it to the Hub if asked, and print how to load it."""
    folder = Path(config.folder)
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInput(f"{folder} is not empty: name a new folder")
    if config.push is not None:
        hub.check_push(config.push)
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
    place = console.short_path(folder)
    python = [f"from vdm.models import {kind}", f'model = {kind}.from_pretrained("{place}")']
    heading = f"{place}: {size / 2**20:.1f} MiB, {run.weights} weights of step {checkpoint.step}"
    console.show(console.listing(heading, python))
    if config.push is not None:
        address = push(folder, config.push, description, checkpoint.path)
        console.show(console.listing(address, ["import vdm", f'model = vdm.load("{config.push}")']))


def push(folder: Path, name: str, description: Description, checkpoint: Path) -> str:
    """Write the model's card into ``folder`` and push it to the Hub; return its address there."""
    card = model_card(name, description, run_metrics(checkpoint, description.weights))
    write_atomically(folder / hub.CARD, card.encode())
    return hub.push(folder, name)


main = entry.export
