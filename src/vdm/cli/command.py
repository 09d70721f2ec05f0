"""What the commands share: Hydra with one-line errors."""

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import vdm
from vdm.errors import InvalidInput

MENDABLE = (InvalidInput, HydraException, OmegaConfBaseException)


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
        raise InvalidInput(f"there is no setting {unknown[0]!r}{_did_you_mean(unknown[0], known)}")


def _line(config_name: str, error: BaseException) -> str:
    if isinstance(error, InstantiationException):
        return _where_and_why(error)
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
    return _did_you_mean(found[1], _keys(config_name, depth=9)) if found else ""


def _did_you_mean(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else "; --help lists the settings"


def _where_and_why(error: InstantiationException) -> str:
    where = re.search(r"full_key: (\S+)", str(error))
    cause: BaseException = error
    while cause.__cause__ is not None and not isinstance(cause, InvalidInput):
        cause = cause.__cause__
    return f"{where[1]}: {_one_line(cause)}" if where else _one_line(cause)


def _one_line(error: BaseException) -> str:
    told = str(error).partition("Config search path:")[0]
    text = " ".join(line.strip() for line in told.splitlines() if line.strip())
    return text if isinstance(error, MENDABLE) else f"{type(error).__name__}: {text}"


def stop(message: str, status: int = 2) -> NoReturn:
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(status)
