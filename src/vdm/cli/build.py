"""From a composed config to objects."""

import logging
import platform
import subprocess
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

import vdm
from vdm.data import InMemoryData
from vdm.errors import InvalidInput
from vdm.evaluation import Estimate
from vdm.training import VariationalTask
from vdm.training.checkpoints import Checkpoint, read_checkpoint


class Parts(NamedTuple):
    """What a run is about."""

    data: InMemoryData
    task: VariationalTask


def build(config: DictConfig | dict[str, Any]) -> Parts:
    """The data module and the task that a ``train.yaml`` config describes; torch's seed is set before.

    Raises:
        InvalidInput: parts that do not fit together, or data that the model gives no probability.
    """
    config = OmegaConf.create(config)
    pl.seed_everything(config.seed, verbose=False)
    data, model = instantiate(config.data), instantiate(config.model)
    for split in data.splits().values():
        model.check(split.x)
    model.inform(data.splits()["train"].x)
    task = VariationalTask(
        model=model,
        optimizer=instantiate(config.optimizer),
        learning_rate=instantiate(config.learning_rate),
        ema_decay=config.ema_decay,
        validation=instantiate(config.validation),
        test=instantiate(config.test),
        seed=config.seed,
    )
    return Parts(data, task)


def restore(path: str, ema: bool, changes: Mapping[str, Any] | None = None) -> tuple[Parts, Checkpoint]:
    """The parts of a trained run, from its checkpoint alone.

    Args:
        path: a checkpoint of ``vdm-train``.
        ema: whether the averaged or the raw weights are loaded as those to evaluate.
        changes: settings, by dotted path, that differ from the run's own; None values are passed over.

    Raises:
        InvalidInput: see ``read_checkpoint``; or weights that do not fit the config beside them.
    """
    checkpoint = read_checkpoint(path)
    config = OmegaConf.create(checkpoint.config)
    for name, value in (changes or {}).items():
        if value is not None:
            OmegaConf.update(config, name, value, merge=False)
    parts = build(config)
    try:
        parts.task.evaluated.load_state_dict(checkpoint.weights(ema))
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise InvalidInput(f"{path}: the weights do not fit the config beside them: {first}") from error
    return parts, checkpoint


def device_of(accelerator: str) -> torch.device:
    """Where to run what no Trainer runs, by the Trainer's names for it."""
    use_gpu = torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda")
    return torch.device("cuda" if use_gpu else "cpu")


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
    return {
        "data": data.provenance(),
        "seed": seed,
        "vdm": code_version(),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }


def as_metrics(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    """Estimates as they stand in ``metrics.json``, in bits/dim."""
    return {name: estimate._asdict() for name, estimate in estimates.items()}
