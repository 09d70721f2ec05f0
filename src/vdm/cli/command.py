"""The frame of every command: Hydra with one-line errors, the device, and the console."""

import errno
import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vdm.cli.launch import check_launch
from vdm.config import hints
from vdm.config.composed import to_plain
from vdm.config.signatures import check_value
from vdm.errors import InvalidInput, did_you_mean, printable
from vdm.runs.files import DISK_FAILURES, write_error_message
from vdm.runs.folder import RunFolder

USER_ERRORS = (InvalidInput, HydraException, OmegaConfBaseException)  # which end a command with one line and status 2
DENIED = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST),
    *(errno.ENAMETOOLONG, errno.ELOOP),
)
"""Error numbers of a full disk, a missing permission, or a file in the place of a folder."""

SHARED_SETTINGS = {"output_dir": str, "trust": str | list[str] | None}  # types of settings of several commands
Task = Callable[[DictConfig], Any]


def run(config_name: str, task: Task, settings: Mapping[str, Any] | None = None) -> None:
    """Compose ``config_name`` with the command line's overrides and run ``task`` on it.

    Errors in the input end the command with one line and status 2; any other exception keeps its traceback. In a
    multirun the other jobs run first.

    Args:
        settings: types of settings that are not arguments of any part.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let exceptions through to this function
    torch.backends.cudnn.allow_tf32 = False  # TF32, a GPU's default in convolutions, has ten bits of mantissa
    decorate = hydra.main(version_base="1.3", config_path=hints.config_directory(), config_name=config_name)
    try:
        sys.argv[1:] = [argument for argument in sys.argv[1:] if argument not in hints.DEFAULTS]
        check_launch(sys.argv[1:])
        hints.check_choices(sys.argv[1:])
        decorate(_checked(config_name, task, SHARED_SETTINGS | dict(settings or {})))()
    except USER_ERRORS as error:
        stop(_line(config_name, error))
    except OSError as error:
        if error.errno not in (*DENIED, *DISK_FAILURES):
            raise
        folder = HydraConfig.get().runtime.output_dir if HydraConfig.initialized() else "a file"  # Hydra writes there first
        stop(write_error_message(Path(error.filename or folder), error))
    except KeyboardInterrupt:
        stop("stopped by the keyboard", status=130)


def _checked(config_name: str, task: Task, settings: Mapping[str, Any]) -> Task:
    """Return ``task`` with its config checked first, and its errors as one line unless other jobs follow."""

    def checked(config: DictConfig) -> Any:
        quiet()
        try:
            _check_names(config_name, config)
            given: Any = OmegaConf.to_container(config, resolve=True)
            for name in settings.keys() & given.keys():
                check_value(given[name], settings[name], name)
            if config_name != "train" and "output_dir" in config:
                RunFolder(config.output_dir).check_unused()
            return task(config)
        except USER_ERRORS as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            stop(_line(config_name, error))

    return checked


def _check_names(config_name: str, config: DictConfig) -> None:
    """Refuse a missing mandatory setting, and a setting that the command does not have."""
    missing = sorted(str(key) for key in OmegaConf.missing_keys(config))
    if missing:
        raise InvalidInput(f"{missing[0]} is needed: add {missing[0]}=… to the command")
    known = [*hints.names(config_name, depth=1), *hints.DATA_FACTS]
    unknown = sorted(set(map(str, config)) - set(known))
    if unknown:
        raise InvalidInput(f"there is no setting {unknown[0]!r}{did_you_mean(unknown[0], known, hints.HELP)}")


def _line(config_name: str, error: BaseException) -> str:
    """Return an error as one line, with a hint where a name is unknown."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        known = ", ".join(error.options)
        return f"{group} has no option {option!r}{did_you_mean(option, error.options, f'it has {known}')}"
    text = str(error).partition("Config search path:")[0]
    line = " ".join(each.strip() for each in text.splitlines() if each.strip())
    if isinstance(error, ConfigCompositionException):
        hint = hints.suggestion(config_name, str(error))
        return line.partition(" To append to your config")[0].rstrip(".") + hint if hint else line
    return line


PLACES = ("root", "cache")  # settings that not every source of data has


def data_changes(config: DictConfig) -> dict[str, Any]:
    """Return the changes to a run's config that ``data=…``, or ``data.root=…`` and so on, of an evaluation ask for."""
    data = {name: value for name, value in to_plain(config.data).items() if value is not None or name not in PLACES}
    if "_target_" not in data:
        return {f"data.{name}": value for name, value in data.items() if value is not None}
    return {"data": data | ({"seed": 0} if data.get("seed", 0) is None else {}), "levels": config.levels}


def words(arguments: Sequence[str], names: Sequence[str], usage: str) -> dict[str, str]:
    """Parse ``name=value`` arguments of a command without a config; raise InvalidInput for an unknown name or no value."""
    given = {}
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name not in names:
            raise InvalidInput(f"there is no setting {name!r}{did_you_mean(name, names, f'usage: {usage}')}")
        if not value:
            raise InvalidInput(f"{name}= has no value; usage: {usage}")
        given[name] = value
    return given


def stop(message: str, status: int = 2) -> NoReturn:
    """Print one line to standard error and exit."""
    print(f"{Path(sys.argv[0]).name}: {printable(message)}", file=sys.stderr)
    sys.exit(status)


def device_of(accelerator: str) -> torch.device:
    """Return the device for work outside a Trainer, by the Trainer's names; Apple's GPU is left to the Trainer.

    Raises:
        InvalidInput: an accelerator that this machine does not have.
    """
    cuda, apple = torch.cuda.is_available(), torch.backends.mps.is_available()
    available = {"auto": True, "cpu": True, "gpu": cuda or apple, "cuda": cuda, "mps": apple}
    if not available.get(accelerator, False):
        known = ", ".join(name for name in available if available[name])
        raise InvalidInput(f"accelerator={accelerator} is not available on this machine: choose one of {known}")
    return torch.device("cuda" if cuda and accelerator != "cpu" else "cpu")


def quiet() -> None:
    """Silence Lightning's notes and warnings, which do not concern the user."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", module="torch.utils.data")
