"""A trained run, loaded from its checkpoint: the model, and on request its data and other parts."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vdm.bound import VariationalModel
from vdm.config.composed import to_plain
from vdm.config.instantiate import check_calls, instantiate, require_resolved
from vdm.config.signatures import check_value
from vdm.config.trust import TrustParts
from vdm.data import DataModule
from vdm.errors import InvalidInput
from vdm.networks.embedding import check_condition
from vdm.runs.bounds import built_within, check_data_config, read_text
from vdm.runs.checkpoints import Checkpoint, read_checkpoint
from vdm.runs.exported import DESCRIPTION, WEIGHTS, adopt_dtypes, read_description, read_weights
from vdm.runs.reading import reading

PARTS = ("model", "data", "test")  # the parts of a run's config that are built for an evaluation


MALFORMED = "its config describes no run: use another checkpoint"


class LoadedRun:
    """A model with its trained weights; the data are built and read at the first use of ``data``.

    Attributes:
        model: in evaluation mode, on the CPU.
        checkpoint: path, resolved config, provenance and step.
        weights: ``ema`` or ``raw``, the weights that ``model`` holds.
        seed: of the training draws.
        levels: of the data; 0 for real numbers.
    """

    def __init__(self, checkpoint: Checkpoint, config: Mapping[str, Any], trust: TrustParts, weights: str) -> None:
        self.checkpoint, self.weights = checkpoint, weights
        self._config, self._trust = config, trust
        self.seed, self.levels = int(config["seed"]), int(config["levels"])
        with built_within(checkpoint.weights(weights == "ema"), checkpoint.path):
            self.model: VariationalModel = self.part("model")

    def part(self, name: str) -> Any:
        """Build one of ``PARTS`` from the run's config."""
        with reading(self.checkpoint.path, MALFORMED):
            return instantiate(self._config[name], self._trust, name)

    @cached_property
    def data(self) -> DataModule:
        """The run's data module, which reads files at the first use of a split, and downloads nothing."""
        place, own = self.checkpoint.provenance.get("working_directory"), self._config["data"]
        self._config = {**self._config, "data": found_again(own, place) if isinstance(place, str) else own}
        data: DataModule = self.part("data")
        data.source.download = False
        return data

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.model.parameters(), torch.empty(0)).device


def found_again(config: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return the config of data, whose files were given relative to the folder ``place`` unless they are here."""
    changed = dict(config)
    for name in ("root", "path"):
        value = config.get(name)
        if isinstance(value, str) and not Path(value).expanduser().exists() and (Path(place) / value).exists():
            changed[name] = str(Path(place) / value)
    return changed


def load_run(
    path: str,
    ema: bool = True,
    changes: Mapping[str, Any] | None = None,
    trust: str | Sequence[str] | None = None,
    finite: bool = True,
) -> LoadedRun:
    """Load the model of a checkpoint: no optimiser, no training task, no data.

    Args:
        path: a checkpoint of ``vdm-train``, or the folder of an exported or imported model.
        ema: whether to load the averaged weights; the raw ones otherwise. A model folder has one kind only.
        changes: settings, by dotted path, that replace the run's own; None values are skipped.
        trust: packages, besides this one, that the checkpoint's config may name.
        finite: whether to refuse weights with NaN or infinity.

    Raises:
        InvalidInput: see ``read_checkpoint``; a config that is malformed, or names a class outside the trusted packages;
            weights that do not fit it, or that are not finite.
    """
    trusted, is_folder = TrustParts(trust), (Path(path) / DESCRIPTION).is_file()
    checkpoint = read_model_folder(Path(path)) if is_folder else read_checkpoint(path)
    ema = bool(checkpoint.weights(True)) if is_folder else ema
    with reading(checkpoint.path, MALFORMED):
        config = _changed(_without_resources(checkpoint), changes or {})
        check_data_config(config["data"], checkpoint.path)
        check_data_choice(checkpoint, config)
        for name in ("levels", "seed"):
            check_value(config[name], int, name)
        check_calls({name: config[name] for name in PARTS}, trusted)
    run = LoadedRun(checkpoint, config, trusted, "ema" if ema else "raw")
    load_weights(run.model, checkpoint, ema, finite)
    run.model.eval()
    return run


def read_model_folder(folder: Path) -> Checkpoint:
    """Return the model in ``folder`` as a checkpoint whose config brings no data, to be evaluated with 4 replicates.

    Raises:
        InvalidInput: see ``vdm.load``.
    """
    description = read_description(folder)
    prefix = "averaged.module." if description.weights == "ema" else "model."
    config = {
        "model": description.model,
        "data": {
            "_target_": "vdm.data.DataModule.of",
            "source": {"_target_": "vdm.data.NoData", "_partial_": True},
            "event_shape": description.event_shape,
            "levels": description.levels,
            "batch_size": 1,
            "eval_batch_size": 250,
        },
        "test": {"_target_": "vdm.evaluation.BoundEvaluation", "repeats": 4, "seed": 2},
        "levels": description.levels,
        "seed": 0,
    }
    state = {f"{prefix}{name}": value for name, value in read_weights(folder, description).items()}
    step = description.provenance.get("step", 0)
    return Checkpoint(folder / WEIGHTS, config, description.provenance, state, step if isinstance(step, int) else 0)


def check_data_choice(checkpoint: Checkpoint, config: dict[str, Any]) -> None:
    """Raise InvalidInput for data of another shape, or with another number of levels, than the model was made for."""
    for name, given, own in (
        ("levels", config["levels"], checkpoint.config["levels"]),
        ("event_shape", config["data"].get("event_shape"), checkpoint.config["data"].get("event_shape")),
    ):
        if given != own:
            raise InvalidInput(f"these data have {name}={given}, and the model is one of {name}={own}: choose other data")


def load_weights(model: VariationalModel, checkpoint: Checkpoint, ema: bool, finite: bool = True) -> None:
    """Put a checkpoint's averaged or raw weights into ``model``.

    Raises:
        InvalidInput: weights of another model; with ``finite``, weights with NaN or infinity.
    """
    wanted, given = model.state_dict(), checkpoint.weights(ema)
    if checkpoint.path.name != WEIGHTS:  # an imported model has the dtypes of its file
        _check_dtypes(wanted, given, checkpoint)
    try:
        adopt_dtypes(model, given)
        model.load_state_dict(given)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise InvalidInput(f"{checkpoint.path}: the weights do not fit the config beside them: {first}") from error
    for name, value in model.state_dict().items():
        if finite and not torch.isfinite(value).all():
            raise InvalidInput(
                f"{checkpoint.path}: the weights are not finite ({name} holds NaN or infinity): use an earlier one"
            )


def check_state(checkpoint: Checkpoint, task: nn.Module) -> None:
    """Raise InvalidInput for a checkpoint whose weights are not those of ``task``, by name, shape and dtype."""
    wanted = task.state_dict()
    for name in wanted.keys() | checkpoint.state.keys():
        shapes = [tuple(state[name].shape) if name in state else "nothing" for state in (checkpoint.state, wanted)]
        if shapes[0] != shapes[1]:
            raise InvalidInput(
                f"{checkpoint.path} is of another model: it holds {shapes[0]} for {name}, where this run has {shapes[1]}"
            )
    _check_dtypes(wanted, checkpoint.state, checkpoint)


def _check_dtypes(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], checkpoint: Checkpoint) -> None:
    """Refuse weights of another dtype than the model's: rounded after training, they would pass for the trained ones."""
    trainer = checkpoint.config.get("trainer")
    double = isinstance(trainer, Mapping) and trainer.get("precision") in ("64-true", "64", 64)
    for name in wanted.keys() & given.keys():
        expected = torch.float64 if double and wanted[name].is_floating_point() else wanted[name].dtype
        if given[name].dtype not in (expected, wanted[name].dtype):
            raise InvalidInput(
                f"{checkpoint.path}: {name} is {str(given[name].dtype).removeprefix('torch.')}, and training wrote "
                f"{str(expected).removeprefix('torch.')}: it was changed since; use the original"
            )


def foreign_checkpoint(checkpoint: Checkpoint) -> list[str]:
    """Return a sentence if a checkpoint lies in the folder of another run than its own, as far as both tell."""
    place = checkpoint.path.resolve().parents[1] / "run_id"
    try:
        own = read_text(place).strip()
    except (OSError, ValueError, IndexError):
        return []
    if checkpoint.run_id in (None, own):
        return []
    return [f"the checkpoint was written by another run ({checkpoint.run_id}) than that of its folder ({own})"]


def check_data(model: VariationalModel, data: DataModule) -> None:
    """Read all splits and check them against the model.

    Raises:
        InvalidInput: values of probability zero under the model; conditions that are missing or not expected.
    """
    for split in data.splits().values():
        model.check(split.x)
        check_condition(model, split.condition)


RESOURCES = {"workers": 0, "device": None}
"""Settings of the data that concern the machine of whoever reads a checkpoint, and what they are unless the reader says."""

MOST = {"data.eval_batch_size": 10_000, "test.repeats": 10_000, "model.sampling.steps": 100_000}
"""Largest values of settings that decide how much memory or time an evaluation takes, unless the reader gives them."""


def _without_resources(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the config of a checkpoint without claims on its reader's machine.

    Raises:
        InvalidInput: more work than any run asks for.
    """
    config = dict(checkpoint.config)
    data = config["data"]
    config["data"] = {**data, **{name: value for name, value in RESOURCES.items() if name in data}}
    for name, most in MOST.items():
        value: Any = config
        for key in name.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, int) and value > most:
            raise InvalidInput(f"{checkpoint.path} asks for {name}={value}, a file may ask for {most:,}: use another one")
    return config


def _changed(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a checkpoint with ``changes`` applied."""
    changed = deepcopy(dict(config))
    for name, value in changes.items():
        if value is not None:
            *parents, last = name.split(".")
            node = changed
            for depth, key in enumerate(parents):
                node = node.setdefault(key, {}) if depth else node[key]
            node[last] = to_plain(value)
    require_resolved(changed)
    return changed
