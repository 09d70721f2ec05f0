"""What the commands share: Hydra with one-line errors."""

import errno
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import vdm
from vdm.errors import InvalidInput, did_you_mean

MENDABLE = (InvalidInput, HydraException, OmegaConfBaseException)
DENIED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)
"""What the operating system says where there is no room or no right to write."""
HELP = "--help lists the settings"


def config_directory() -> str:
    """The folder of Hydra's groups: inside the installed package, or at the top of a checkout."""
    package = Path(vdm.__file__).parent
    packaged = package / "configs"
    return str(packaged if packaged.is_dir() else package.parents[1] / "configs")


def run(config_name: str, task: Callable[[DictConfig], Any]) -> None:
    """Compose ``config_name`` with the command line's overrides and run ``task`` on it.

    Input that its giver can mend ends the command with one line and status 2; anything else keeps its traceback. In a
    multirun the other jobs run first.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let exceptions through to here
    decorate = hydra.main(version_base="1.3", config_path=config_directory(), config_name=config_name)
    try:
        decorate(_checked(config_name, task))()
    except MENDABLE as error:
        stop(_line(config_name, error))
    except OSError as error:
        if error.errno not in DENIED:
            raise
        stop(f"{error.filename or 'a file'} cannot be written ({error.strerror}): make room, or choose another folder")
    except KeyboardInterrupt:
        stop("stopped by the keyboard", status=130)


def _checked(config_name: str, task: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    def checked(config: DictConfig) -> Any:
        try:
            _check_names(config_name, config)
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
    known = _keys(config_name, depth=1)
    unknown = sorted(set(map(str, config)) - set(known))
    if unknown:
        raise InvalidInput(f"there is no setting {unknown[0]!r}{did_you_mean(unknown[0], known, HELP)}")


def _line(config_name: str, error: BaseException) -> str:
    if isinstance(error, ConfigCompositionException):
        return _one_line(error) + _suggestion(config_name, str(error))
    return _one_line(error)


def _keys(config_name: str, depth: int) -> list[str]:
    """Names of the groups and of the settings of the default config, down to ``depth`` dots."""
    saved = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(config_directory(), version_base="1.3"):
        names = [group for group in GlobalHydra.instance().config_loader().get_group_options("", None) if "." not in group]
        config = hydra.compose(config_name)
    GlobalHydra.instance().hydra = saved

    def walk(node: Any, prefix: str, left: int) -> Iterator[str]:
        if isinstance(node, dict) and left:
            for key, value in node.items():
                yield f"{prefix}{key}"
                yield from walk(value, f"{prefix}{key}.", left - 1)

    return sorted({*names, *walk(OmegaConf.to_container(config, resolve=False), "", depth)})


def _suggestion(config_name: str, message: str) -> str:
    found = re.search(r"(?:Could not override|Key) '([^']+)'", message)
    return did_you_mean(found[1], _keys(config_name, depth=9), HELP) if found else ""


def _one_line(error: BaseException) -> str:
    told = str(error).partition("Config search path:")[0]
    return " ".join(line.strip() for line in told.splitlines() if line.strip())


def stop(message: str, status: int = 2) -> NoReturn:
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(status)
