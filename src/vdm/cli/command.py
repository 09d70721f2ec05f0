"""What the commands share: Hydra with one-line errors."""

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

from vdm.config import hints
from vdm.config.signatures import check_value
from vdm.errors import InvalidInput, did_you_mean, printable
from vdm.runs.files import OUT_OF_REACH, unwritable
from vdm.runs.folder import RunFolder

MENDABLE = (InvalidInput, HydraException, OmegaConfBaseException)

DENIED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)
"""What the operating system says where there is no room, no right to write, or a file in the way."""

SHARED = {"output_dir": str, "trust": str | list[str] | None}
"""Types of settings of several commands."""


def run(config_name: str, task: Callable[[DictConfig], Any], settings: Mapping[str, Any] | None = None) -> None:
    """Compose ``config_name`` with the command line's overrides and run ``task`` on it.

    Args:
        settings: types of settings that no part takes as an argument.

    Input that its giver can mend ends the command with one line and status 2; anything else keeps its traceback. In a
    multirun the other jobs run first.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let exceptions through to here
    torch.backends.cudnn.allow_tf32 = False  # ten bits in a GPU's convolutions, which are on by default, are not float32
    decorate = hydra.main(version_base="1.3", config_path=hints.config_directory(), config_name=config_name)
    try:
        sys.argv[1:] = [argument for argument in sys.argv[1:] if argument not in hints.DEFAULTS]
        hints.check_choices(sys.argv[1:])
        decorate(_checked(config_name, task, SHARED | dict(settings or {})))()
    except MENDABLE as error:
        stop(_line(config_name, error))
    except OSError as error:
        if error.errno not in (*DENIED, *OUT_OF_REACH):
            raise
        stop(unwritable(Path(error.filename or "a file"), error))
    except KeyboardInterrupt:
        stop("stopped by the keyboard", status=130)


def _checked(
    config_name: str, task: Callable[[DictConfig], Any], settings: Mapping[str, Any]
) -> Callable[[DictConfig], Any]:
    def checked(config: DictConfig) -> Any:
        try:
            _check_names(config_name, config)
            given = OmegaConf.to_container(config, resolve=True)
            assert isinstance(given, dict)
            for name in settings.keys() & given.keys():
                check_value(given[name], settings[name], name)
            if config_name != "train" and "output_dir" in config:
                RunFolder(config.output_dir).check_unused()
            return task(config)
        except MENDABLE as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            stop(_line(config_name, error))

    return checked


def _check_names(config_name: str, config: DictConfig) -> None:
    missing = sorted(str(key) for key in OmegaConf.missing_keys(config))
    if missing:
        raise InvalidInput(f"{missing[0]} is needed: add {missing[0]}=… to the command")
    known = hints.names(config_name, depth=1)
    unknown = sorted(set(map(str, config)) - set(known))
    if unknown:
        raise InvalidInput(f"there is no setting {unknown[0]!r}{did_you_mean(unknown[0], known, hints.HELP)}")


def _line(config_name: str, error: BaseException) -> str:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        known = ", ".join(error.options)
        return f"{group} has no option {option!r}{did_you_mean(option, error.options, f'it has {known}')}"
    if isinstance(error, ConfigCompositionException):
        found = hints.suggestion(config_name, str(error))
        told = _one_line(error)
        return told.partition(" To append to your config")[0].rstrip(".") + found if found else told
    return _one_line(error)


def _one_line(error: BaseException) -> str:
    told = str(error).partition("Config search path:")[0]
    return " ".join(line.strip() for line in told.splitlines() if line.strip())


def words(arguments: Sequence[str], names: Sequence[str], usage: str) -> dict[str, str]:
    """``name=value`` of each argument of a command without configs, the value as it stands there.

    Raises:
        InvalidInput: another name, or a name without a value.
    """
    given = {}
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name not in names:
            raise InvalidInput(f"there is no setting {name!r}{did_you_mean(name, names, f'usage: {usage}')}")
        if not value:
            raise InvalidInput(f"{name}= names nothing; usage: {usage}")
        given[name] = value
    return given


def stop(message: str, status: int = 2) -> NoReturn:
    print(f"{Path(sys.argv[0]).name}: {printable(message)}", file=sys.stderr)
    sys.exit(status)


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
