"""From a composed config to objects."""

import logging
import platform
import subprocess
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from omegaconf import DictConfig, OmegaConf

import vdm
from vdm.construction import construct, plain
from vdm.data import InMemoryData
from vdm.data.overlap import shared
from vdm.errors import InvalidInput
from vdm.evaluation import BoundEvaluation, Estimate
from vdm.networks.embedding import check_condition
from vdm.signatures import check_value
from vdm.training import VariationalTask
from vdm.training.checkpoints import Checkpoint, read_checkpoint
from vdm.training.parameters import parameter_groups
from vdm.trust import EverythingTrusted, PartsTrusted, Trust


class Parts(NamedTuple):
    """What a run is about."""

    data: InMemoryData
    task: VariationalTask


PARTS = ("data", "model", "optimizer", "learning_rate", "validation", "test")
"""What of a run's config is built, in this order."""
OWN = EverythingTrusted()
"""For what the user composed on the command line."""


def build(config: DictConfig | Mapping[str, Any], trust: Trust = OWN) -> Parts:
    """The data module and the task that a ``train.yaml`` config describes; torch's seed is set before.

    Args:
        trust: whose code the config may call; anybody's by default, for a config that the user composed. Any other
            config fetches no data either.

    Raises:
        InvalidInput: see ``construct``; parts that do not fit together, or data that the model gives no probability.
    """
    tree = resolved(config)
    check_value(tree["seed"], int, "seed")
    check_value(tree["ema_decay"], float, "ema_decay")
    if not 0 <= tree["seed"] < 2**32:
        raise InvalidInput(f"seed must be between 0 and {2**32 - 1}, got {tree['seed']}")
    pl.seed_everything(tree["seed"], verbose=False)
    parts = construct({name: tree[name] for name in PARTS}, trust)
    for name in ("optimizer", "learning_rate"):
        if not callable(parts[name]):
            raise InvalidInput(f"{name} must be a _target_ with _partial_: true, which training calls, got {parts[name]!r}")
    for name in ("validation", "test"):
        check_value(parts[name], BoundEvaluation, name)
    data, model = parts.pop("data"), parts["model"]
    if trust is not OWN:
        data.download = False
    for split in data.splits().values():
        model.check(split.x)
        check_condition(model, split.condition)
    model.inform(data.splits()["train"].x)
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


def resolved(config: Any) -> Any:
    """A composed config, or a part of one, as plain values."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


def make(config: Any, place: str) -> Any:
    """A part that the user composed; None of None."""
    return construct(resolved(config), OWN, place)


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
                _change(tree, name.split("."), resolved(value))
        plain(tree)
        check_value(tree["levels"], int, "levels")
        parts = build(tree, PartsTrusted(trust))
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


def device_of(accelerator: str) -> torch.device:
    """Where to run what no Trainer runs, by the Trainer's names for it; Apple's GPU is left to the Trainer.

    Raises:
        InvalidInput: a name of none, or of one that this machine has not.
    """
    cuda, apple = torch.cuda.is_available(), torch.backends.mps.is_available()
    there = {"auto": True, "cpu": True, "gpu": cuda or apple, "cuda": cuda, "mps": apple}
    if not there.get(accelerator, False):
        known = ", ".join(name for name in there if there[name])
        raise InvalidInput(f"accelerator={accelerator} is none that this machine has: choose one of {known}")
    return torch.device("cuda" if cuda and accelerator != "cpu" else "cpu")


def quiet() -> None:
    """Leave the screen to what the user asked for."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", module="torch.utils.data")


def code_version() -> str:
    """The package's version, and the commit where it runs from a git checkout."""
    folder = Path(vdm.__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=folder, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return version("vdm")
    return f"{version('vdm')}+{described.stdout.strip()}"


def provenance(data: InMemoryData, seed: int) -> dict[str, Any]:
    """What a number depends on besides the config."""
    splits = data.splits()
    about: dict[str, Any] = dict(data.provenance())
    for name, entry in about["splits"].items():
        if name != "train":
            entry["in_training"] = shared(splits[name].x, splits["train"].x)
    return {
        "data": about,
        "seed": seed,
        "vdm": code_version(),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        **({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
    }


def as_metrics(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    """Estimates as they stand in ``metrics.json``, in bits/dim."""
    return {name: estimate._asdict() for name, estimate in estimates.items()}
