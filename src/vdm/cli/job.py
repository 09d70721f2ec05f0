"""What Hydra knows of the running job; a config that was composed in Python has none."""

from pathlib import Path
from typing import NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from vdm.errors import InvalidInput


class Job(NamedTuple):
    """A job of Hydra.

    Attributes:
        overrides: of the command line.
        dirname: the overrides as part of a file name.
        sweep: the name of the sweep's folder, None outside a sweep.
        choices: the chosen option of each config group.
    """

    overrides: list[str]
    dirname: str
    sweep: str | None
    choices: dict[str, str]


def job() -> Job:
    """Return the running job; empty without Hydra."""
    if not HydraConfig.initialized():
        return Job([], "", None, {})
    hydra = HydraConfig.get()
    sweep = Path(hydra.sweep.dir).name if hydra.mode == RunMode.MULTIRUN else None
    chosen = hydra.runtime.choices.items()
    choices = {name: option for name, option in chosen if not name.startswith("hydra/") and name not in ("local", "short")}
    return Job(list(hydra.overrides.task), hydra.job.override_dirname, sweep, choices)


def require_folder(config: DictConfig) -> None:
    """Raise InvalidInput for a config composed in Python that names no ``output_dir``, which Hydra names for a command."""
    try:
        str(config.output_dir)
    except OmegaConfBaseException as error:
        raise InvalidInput(
            "output_dir is not known outside a command: compose with output_dir=FOLDER, or call vdm.train(overrides, FOLDER)"
        ) from error
