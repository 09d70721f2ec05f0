"""Models by where they are: a folder, a checkpoint, or a repository of the Hugging Face Hub."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdm.errors import InvalidInput
from vdm.runs import exported, hub

if TYPE_CHECKING:  # Lightning and Hydra, which an exported model does without
    from vdm.runs.load import LoadedRun

Source = str | Path


def load(source: Source, trust: str | Sequence[str] | None = None, ema: bool = True) -> Any:
    """Return a trained model in evaluation mode, on the CPU.

    Args:
        source: the folder of a run, of an exported or of an imported model; a checkpoint; or ``user/repo``, with or without
            ``@revision``, on the Hugging Face Hub. Of a run, the checkpoint that was tested; before its end, the last.
        trust: packages, besides this one, whose classes the model's description may name.
        ema: the averaged weights; the raw ones otherwise. A model folder has one kind only.

    Returns:
        A ``VariationalModel``: ``elbo(x)``, ``sample(n, event_shape)``; a VDM also has ``denoiser(x_t, gamma_t)``.

    Raises:
        InvalidInput: no model there; a file that is damaged or changed; a class outside the trusted packages.
    """
    path = located(source)
    if path.is_file():
        return open_run(path, trust, ema).model
    return exported.load(path, trust)


def open_run(source: Source, trust: str | Sequence[str] | None = None, ema: bool = True) -> "LoadedRun":
    """Return the run of a trained model, which knows its data; ``source`` and the rest as for ``load``."""
    from vdm.runs.load import load_run

    if not isinstance(source, str | Path):
        kind = type(source).__name__
        raise InvalidInput(f"a model or the place of one is needed, got a {kind}: vdm.wrap makes a function a model")
    return load_run(str(located(source)), ema, trust=trust)


def located(source: Source) -> Path:
    """Return the model folder or the checkpoint of ``source``, downloaded if it is on the Hub."""
    path = Path(source).expanduser()
    if (path / "checkpoints").is_dir() and not (path / exported.DESCRIPTION).exists():
        return tested_checkpoint(path)
    if not path.exists() and hub.is_repository(str(source)):
        return hub.download(str(source))
    return path


def tested_checkpoint(folder: Path) -> Path:
    """Return the checkpoint whose numbers stand in a run's metrics.json, or the last one of a run without."""
    from vdm.runs.folder import RunFolder
    from vdm.runs.reading import reading

    run = RunFolder(folder)
    if not run.metrics.exists():
        return run.last
    with reading(run.metrics):
        return run.checkpoints / Path(json.loads(run.metrics.read_text())["provenance"]["checkpoint"]).name
