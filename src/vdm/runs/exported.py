"""Exported models: two files that need neither Hydra nor Lightning, the weights by name and a ``Description``."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save
from torch import Tensor, nn

from vdm.config.instantiate import instantiate, require_resolved
from vdm.config.trust import TrustParts
from vdm.errors import InvalidInput
from vdm.runs.bounds import JSON_BYTES, built_within, check_file, check_tree, read_text
from vdm.runs.files import json_values, write_atomically, write_json
from vdm.runs.migration import migrate_config

FORMAT = 2
WEIGHTS, DESCRIPTION = "model.safetensors", "vdm.json"


class Description(NamedTuple):
    """The content of ``vdm.json``; the order of the fields is part of the format.

    Attributes:
        model: the tree of constructor calls (see ``vdm.config.instantiate``).
        event_shape, levels: shape and levels of the data; levels is 0 for real numbers.
        weights: ``ema`` or ``raw``.
        sha256: SHA-256 of the file of weights.
        provenance: the run's.
        own_sha256: SHA-256 of all other fields; None for a file that was edited on purpose.
    """

    format: int
    model: dict[str, Any]
    event_shape: list[int]
    levels: int
    weights: str
    sha256: str
    provenance: dict[str, Any]
    own_sha256: str | None = None

    def digest(self) -> str:
        """Return the value that ``own_sha256`` must have."""
        return hashlib.sha256(json.dumps(self._replace(own_sha256=None)).encode()).hexdigest()


def write_exported(folder: Path, model: nn.Module, description: Description) -> int:
    """Write the weights, then the description with their SHA-256; return the size of the weights in bytes.

    A folder with a description is complete.
    """
    weights = save({name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()})
    facts = json_values(description.provenance)  # as the file will have them
    complete = description._replace(sha256=hashlib.sha256(weights).hexdigest(), provenance=facts)
    complete = complete._replace(own_sha256=complete.digest())
    write_atomically(folder / WEIGHTS, weights)
    write_json(folder / DESCRIPTION, complete._asdict())
    return len(weights)


def read_description(folder: Path) -> Description:
    """Return the description in ``folder``, with the names that classes have today.

    Raises:
        InvalidInput: a description that is missing, incomplete, changed, or of another format.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise InvalidInput(f"{folder} holds no exported model: it has no {DESCRIPTION}; vdm-export writes one")
    try:
        content = json.loads(read_text(path, JSON_BYTES))
        check_tree(content, str(path))
        version = content["format"]
        if version not in (1, FORMAT):
            raise InvalidInput(f"{path} has format {version}, this version of vdm reads {FORMAT}: export it again")
        description = Description(**content)
        if description.own_sha256 not in (None, description.digest()):
            raise InvalidInput(f"{path} was changed: export the model again, or set own_sha256 in it to null if you mean it")
        return description._replace(format=FORMAT, model=migrate_config(description.model))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"{path} is not what vdm-export writes, or is incomplete: export the model again") from error


def load(folder: str | Path, trust: str | Sequence[str] | None = None) -> nn.Module:
    """Return the model in ``folder``, in evaluation mode.

    Args:
        trust: packages, besides this one, whose classes the description may name.

    Raises:
        InvalidInput: see ``read_description``; weights that are missing, changed or of another model; a description that
            names a class outside the trusted packages.
    """
    folder = Path(folder)
    description = read_description(folder)
    tensors = read_weights(folder, description)
    try:
        require_resolved(description.model, "model")
        with built_within(tensors, folder / WEIGHTS):
            model = instantiate(description.model, TrustParts(trust), "model")
        adopt_dtypes(model, tensors)
        model.load_state_dict(tensors)
        return model.eval()
    except (RuntimeError, AttributeError) as error:
        raise InvalidInput(
            f"{folder / WEIGHTS} does not fit the model that {DESCRIPTION} describes: export it again"
        ) from error


def read_weights(folder: Path, description: Description) -> dict[str, Tensor]:
    """Return the tensors in ``folder`` by name.

    Raises:
        InvalidInput: weights that are missing, changed or damaged.
    """
    path = folder / WEIGHTS
    if path.is_file():
        check_file(path)
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != description.sha256:
        raise InvalidInput(f"{path} is missing, cut short or not the file that {DESCRIPTION} describes: export it again")
    try:
        return load_tensors(content)
    except (SafetensorError, RuntimeError) as error:
        raise InvalidInput(f"{path} does not fit the model that {DESCRIPTION} describes: export it again") from error


def adopt_dtypes(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Convert each floating weight of ``model``, in place, to the type that it has in ``tensors``.

    ``load_state_dict`` would round float64 weights of an imported model to float32.
    """
    for name, own in [*model.named_parameters(), *model.named_buffers()]:
        if name in tensors and own.is_floating_point() and tensors[name].is_floating_point():
            own.data = own.data.to(tensors[name].dtype)
