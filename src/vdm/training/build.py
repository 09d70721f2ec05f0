"""From a composed ``train.yaml`` config to the data module and the training task."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import lightning.pytorch as pl
from omegaconf import DictConfig

from vdm.config.composed import instantiate_own, to_plain
from vdm.config.signatures import check_value
from vdm.data import DataModule
from vdm.errors import InvalidInput, one_line
from vdm.evaluation import BoundEvaluation
from vdm.runs.load import check_data
from vdm.training.task import VariationalTask, parameter_groups

PARTS = ("data", "model", "optimizer", "learning_rate", "validation", "test")
"""Parts of a run's config, in the order in which they are built."""


class Parts(NamedTuple):
    """The data and the task of a run."""

    data: DataModule
    task: VariationalTask


def build(config: DictConfig | Mapping[str, Any]) -> Parts:
    """Seed torch, build the parts of a config, read the data and initialise the model from them.

    Raises:
        InvalidInput: a setting out of range; see ``instantiate``; parts that do not fit together; data to which the model
            gives no probability.
    """
    tree = to_plain(config)
    check_value(tree["seed"], int, "seed")
    check_value(tree["ema_decay"], float, "ema_decay")
    if not 0 <= tree["seed"] < 2**32:
        raise InvalidInput(f"seed must be between 0 and {2**32 - 1}, got {tree['seed']}")
    pl.seed_everything(tree["seed"], verbose=False)
    parts = instantiate_own({name: tree[name] for name in PARTS}, "")
    _check_parts(parts)
    data, model = parts.pop("data"), parts["model"]
    check_data(model, data)
    model.init_from_data(data.splits()["train"].x)
    task = VariationalTask(**parts, ema_decay=tree["ema_decay"], seed=tree["seed"])
    _check_optimizer(task)
    return Parts(data, task)


def _check_parts(parts: Mapping[str, Any]) -> None:
    for name in ("optimizer", "learning_rate"):
        if not callable(parts[name]):
            raise InvalidInput(f"{name} must be a _target_ with _partial_: true, got {parts[name]!r}")
    if not isinstance(parts["data"], DataModule):
        raise InvalidInput(
            f"data must make a vdm.data.DataModule, got {type(parts['data']).__name__}: a LightningDataModule or a torch "
            "data set goes to data=dataset data.source._target_=…"
        )
    for name in ("validation", "test"):
        check_value(parts[name], BoundEvaluation, name)


def _check_optimizer(task: VariationalTask) -> None:
    """Build the optimiser and its learning rate once, as training will, so that a refusal comes before training."""
    try:
        task.learning_rate(task.optimizer(parameter_groups(task.model)), 1000)
    except Exception as error:
        reason = one_line(error)
        raise InvalidInput(f"optimizer or learning_rate: {reason}") from error
