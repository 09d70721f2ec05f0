"""What the commands share: Hydra with one-line errors."""

import errno
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vdm.cli import suggestions
from vdm.errors import InvalidInput, did_you_mean, printable
from vdm.signatures import check_value
from vdm.training.run_folder import RunFolder

MENDABLE = (InvalidInput, HydraException, OmegaConfBaseException)
DENIED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)
"""What the operating system says where there is no room or no right to write."""


def run(config_name: str, task: Callable[[DictConfig], Any], settings: Mapping[str, Any] | None = None) -> None:
    """Compose ``config_name`` with the command line's overrides and run ``task`` on it.

    Args:
        settings: types of settings that no part takes as an argument.

    Input that its giver can mend ends the command with one line and status 2; anything else keeps its traceback. In a
    multirun the other jobs run first.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let exceptions through to here
    torch.backends.cudnn.allow_tf32 = False  # ten bits in a GPU's convolutions, which are on by default, are not float32
    decorate = hydra.main(version_base="1.3", config_path=suggestions.config_directory(), config_name=config_name)
    try:
        decorate(_checked(config_name, task, settings or {}))()
    except MENDABLE as error:
        stop(_line(config_name, error))
    except OSError as error:
        if error.errno not in DENIED:
            raise
        stop(f"{error.filename or 'a file'} cannot be written ({error.strerror}): make room, or choose another folder")
    except KeyboardInterrupt:
        stop("stopped by the keyboard", status=130)


def _checked(
    config_name: str, task: Callable[[DictConfig], Any], settings: Mapping[str, Any]
) -> Callable[[DictConfig], Any]:
    def checked(config: DictConfig) -> Any:
        try:
            _check_names(config_name, config)
            for name, annotation in settings.items():
                check_value(OmegaConf.select(config, name), annotation, name)
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
    known = suggestions.names(config_name, depth=1)
    unknown = sorted(set(map(str, config)) - set(known))
    if unknown:
        raise InvalidInput(f"there is no setting {unknown[0]!r}{did_you_mean(unknown[0], known, suggestions.HELP)}")


def _line(config_name: str, error: BaseException) -> str:
    if isinstance(error, ConfigCompositionException):
        found = suggestions.suggestion(config_name, str(error))
        told = _one_line(error)
        return told.partition(" To append to your config")[0].rstrip(".") + found if found else told
    return _one_line(error)


def _one_line(error: BaseException) -> str:
    told = str(error).partition("Config search path:")[0]
    return " ".join(line.strip() for line in told.splitlines() if line.strip())


def stop(message: str, status: int = 2) -> NoReturn:
    print(f"{Path(sys.argv[0]).name}: {printable(message)}", file=sys.stderr)
    sys.exit(status)
