"""Where a run's weights come from, besides its own steps: another run's checkpoint, or a shorter run that is extended."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from vdm.errors import InvalidInput
from vdm.reports import console
from vdm.runs.checkpoints import read_checkpoint
from vdm.runs.files import file_sha256
from vdm.runs.folder import RunFolder
from vdm.runs.load import load_weights
from vdm.runs.provenance import fingerprints
from vdm.training.task import VariationalTask


def origin(config: DictConfig, folder: RunFolder, task: VariationalTask, start: Path | None) -> dict[str, Any]:
    """Put the weights of ``ckpt=`` into a new run's ``task``, and return what its provenance says about its beginning.

    A resumed run keeps what its checkpoint says, and adds the number of steps that it is extended beyond.

    Raises:
        InvalidInput: weights of another model; a finished run without the checkpoint to extend it from.
    """
    extended = folder.extends(config)
    if start is None:
        if extended is not None and folder.metrics.exists():
            raise InvalidInput(f"{folder.root} cannot be extended beyond {extended} steps: it has no {folder.last.name}")
        return {} if config.get("ckpt") is None else {"started_from": _start_from(Path(config.ckpt), task)}
    earlier = read_checkpoint(start).provenance
    kept: dict[str, Any] = {name: earlier[name] for name in ("started_from", "extended") if name in earlier}
    return kept if extended is None else kept | {"extended": [*kept.get("extended", []), extended]}


def origin_lines(facts: Mapping[str, Any], begins: bool) -> list[str]:
    """Return what to print about the beginning of a run: ``begins`` for a new one."""
    lines = []
    if begins and "started_from" in facts:
        lines.append(
            f"starting from the averaged weights of {console.short_path(Path(facts['started_from']['checkpoint']))}"
        )
    if facts.get("extended"):
        lines.append(
            f"extending a run of {facts['extended'][-1]} steps: from here on the learning rate follows the schedule of the "
            "longer run, so this is not the run that would have had that many steps from its start"
        )
    return lines


def _start_from(path: Path, task: VariationalTask) -> dict[str, Any]:
    """Put the averaged weights at ``path`` into the model and its average, and return what identifies them."""
    checkpoint = read_checkpoint(path)
    load_weights(task.model, checkpoint, ema=True)
    task.averaged.module.load_state_dict(task.model.state_dict())
    return {
        "checkpoint": str(path),
        "sha256": file_sha256(path),
        "step": checkpoint.step,
        "run_id": checkpoint.run_id,
        "trained_on": fingerprints(checkpoint.provenance.get("data")),
    }
