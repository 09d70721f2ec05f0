"""From a composed config to objects."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from omegaconf import DictConfig

from vdm.config.composed import OWN_CONFIG, to_plain
from vdm.config.instantiate import instantiate, require_resolved
from vdm.config.signatures import check_value
from vdm.config.trust import Trust, TrustParts
from vdm.data import DataModule
from vdm.errors import InvalidInput
from vdm.evaluation import BoundEvaluation
from vdm.networks.embedding import check_condition
from vdm.runs.checkpoints import Checkpoint, read_checkpoint
from vdm.training import VariationalTask
from vdm.training.parameters import parameter_groups


class Parts(NamedTuple):
    """What a run is about."""

    data: DataModule
    task: VariationalTask


PARTS = ("data", "model", "optimizer", "learning_rate", "validation", "test")
"""What of a run's config is built, in this order."""


def build(config: DictConfig | Mapping[str, Any], trust: Trust = OWN_CONFIG) -> Parts:
    """The data module and the task that a ``train.yaml`` config describes; torch's seed is set before.

    Args:
        trust: whose code the config may call; anybody's by default, for a config that the user composed. Any other
            config fetches no data either.

    Raises:
        InvalidInput: see ``construct``; parts that do not fit together, or data that the model gives no probability.
    """
    tree = to_plain(config)
    check_value(tree["seed"], int, "seed")
    check_value(tree["ema_decay"], float, "ema_decay")
    if not 0 <= tree["seed"] < 2**32:
        raise InvalidInput(f"seed must be between 0 and {2**32 - 1}, got {tree['seed']}")
    pl.seed_everything(tree["seed"], verbose=False)
    parts = instantiate({name: tree[name] for name in PARTS}, trust)
    for name in ("optimizer", "learning_rate"):
        if not callable(parts[name]):
            raise InvalidInput(f"{name} must be a _target_ with _partial_: true, which training calls, got {parts[name]!r}")
    for name in ("validation", "test"):
        check_value(parts[name], BoundEvaluation, name)
    data, model = parts.pop("data"), parts["model"]
    if trust is not OWN_CONFIG:
        data.source.download = False
    for split in data.splits().values():
        model.check(split.x)
        check_condition(model, split.condition)
    model.init_from_data(data.splits()["train"].x)
    task = VariationalTask(**parts, ema_decay=tree["ema_decay"], seed=tree["seed"])
    check_optimizer(task)
    return Parts(data, task)


def check_optimizer(task: VariationalTask) -> None:
    """Make the optimiser and its learning rate once, as training will: what they refuse is known before it begins."""
    try:
        task.learning_rate(task.optimizer(parameter_groups(task.model)), 1000)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InvalidInput(f"optimizer or learning_rate: {reason}") from error


def restore(
    path: str,
    ema: bool,
    changes: Mapping[str, Any] | None = None,
    trust: str | Sequence[str] | None = None,
    finite: bool = True,
) -> tuple[Parts, Checkpoint]:
    """The parts of a trained run, from its checkpoint alone.

    Args:
        path: a checkpoint of ``vdm-train``.
        ema: whether the averaged or the raw weights are loaded as those to evaluate.
        changes: settings, by dotted path, that differ from the run's own; None values are passed over.
        trust: packages, besides this one, that the checkpoint's config may call.
        finite: refuse weights that are not: their samples can look whole.

    Raises:
        InvalidInput: see ``read_checkpoint``; a config that calls anything else; weights that do not fit it, or that are no
            numbers.
    """
    checkpoint = read_checkpoint(path)
    tree = deepcopy(checkpoint.config)
    try:
        for name, value in (changes or {}).items():
            if value is not None:
                _change(tree, name.split("."), to_plain(value))
        require_resolved(tree)
        check_value(tree["levels"], int, "levels")
        parts = build(tree, TrustParts(trust))
    except InvalidInput:
        raise
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput(f"{path}: its config describes no run ({type(error).__name__}: {error}): use another") from error
    try:
        parts.task.evaluated.load_state_dict(checkpoint.weights(ema))
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise InvalidInput(f"{path}: the weights do not fit the config beside them: {first}") from error
    for name, value in parts.task.evaluated.state_dict().items():
        if finite and not torch.isfinite(value).all():
            raise InvalidInput(f"{path}: the weights are not finite ({name} holds NaN or infinity): use an earlier one")
    return parts, checkpoint


def _change(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *way, last = path
    for key in way:
        tree = tree.setdefault(key, {})
    tree[last] = value
