"""Write an imported model as an exported model, with where it came from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vdm.config.instantiate import instantiate
from vdm.config.trust import TrustParts
from vdm.errors import InvalidInput
from vdm.runs.exported import FORMAT, Description, adopt_dtypes, write_exported
from vdm.runs.files import file_sha256
from vdm.runs.provenance import code_version


class Imported(NamedTuple):
    """A foreign model in this project's terms.

    Attributes:
        model: the tree of constructor calls.
        state: the weights, by their names in the model that ``model`` builds.
        event_shape, levels: shape and levels of the data.
        weights: ``ema`` or ``raw``.
        facts: what else is known: the format, the training step, settings that were given.
        source: the file of the weights.
    """

    model: dict[str, Any]
    state: dict[str, Tensor]
    event_shape: tuple[int, ...]
    levels: int
    weights: str
    facts: Mapping[str, Any]
    source: Path


def new_folder(folder: str) -> Path:
    """Return ``folder`` as a path; raise InvalidInput if it is a file or holds anything."""
    path = Path(folder)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InvalidInput(f"{path} is not empty: name a new folder")
    return path


def write_imported(folder: Path, imported: Imported) -> int:
    """Build the model, put its weights in, and write both; return the size of the weights in bytes.

    Raises:
        InvalidInput: weights that do not fit the model, or that are NaN or infinite.
    """
    source = imported.source
    model = instantiate(imported.model, TrustParts(), "model")
    adopt_dtypes(model, imported.state)
    _check_shapes(model, imported.state, source)
    missing, unknown = model.load_state_dict(imported.state, strict=False)
    if missing or unknown:
        first = f"{missing[0]} is missing" if missing else f"{unknown[0]} has no place in it"
        raise InvalidInput(f"{source} does not hold the model that its shapes and settings describe: {first}")
    for name, value in imported.state.items():
        if not torch.isfinite(value).all():
            raise InvalidInput(f"{source}: the weights are not finite ({name} holds NaN or infinity): use another file")
    description = Description(
        format=FORMAT,
        model=imported.model,
        event_shape=list(imported.event_shape),
        levels=imported.levels,
        weights=imported.weights,
        sha256="",
        provenance={"imported": source.name, "sha256": file_sha256(source), "vdm": code_version(), **imported.facts},
    )
    return write_exported(folder, model, description)


def _check_shapes(model: torch.nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
    """Raise InvalidInput for a weight of another shape than the model's."""
    for name, own in model.state_dict().items():
        if name in state and state[name].shape != own.shape:
            raise InvalidInput(
                f"{source}: {name} has shape {tuple(state[name].shape)}, and the model that the settings describe needs "
                f"{tuple(own.shape)}: give the settings that it was trained with"
            )


def compact(value: Tensor) -> Tensor:
    """Return ``value`` in float32 if that changes no number, else in float64."""
    single = value.float()
    return single.contiguous() if torch.equal(single.to(value.dtype), value) else value.double().contiguous()
