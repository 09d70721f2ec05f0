"""The frame of every command: Hydra with one-line errors, before anything heavy is imported.

Names, choices and files are checked with Hydra and OmegaConf alone; torch, Lightning and the task itself are imported
after that, so that a misspelt setting is refused at once.
"""

import errno
import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vdm.cli.early import Command, check, check_early
from vdm.cli.help import help_text
from vdm.cli.launch import check_launch
from vdm.config.arguments import checked_arguments
from vdm.config.composed import to_plain
from vdm.config.groups import config_directory
from vdm.config.hints import suggestion
from vdm.config.signatures import check_value
from vdm.errors import InvalidInput, did_you_mean, one_line, printable
from vdm.runs.files import DISK_FAILURES, write_error_message
from vdm.runs.version import code_version
from vdm.training.signals import ending

USER_ERRORS = (InvalidInput, HydraException, OmegaConfBaseException)
"""Errors in the input, which end a command with one line and status 2."""

DENIED = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST),
    *(errno.ENAMETOOLONG, errno.ELOOP),
)
"""Error numbers of a full disk, a missing permission, or a file in the place of a folder."""

SHARED_SETTINGS = {"output_dir": str, "trust": str | list[str] | None}
"""Types of settings of several commands."""

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
"""Variables with the number of this process among those of a run."""


def run(
    config_name: str,
    task: Callable[[DictConfig], Any] | str,
    settings: Mapping[str, Any] | None = None,
    announce: Callable[[DictConfig], str] | None = None,
) -> None:
    """Compose ``config_name`` with the command line's overrides and run ``task`` on it; arguments as in ``Command``.

    Errors in the input end the command with one line and status 2; any other exception keeps its traceback. In a
    multirun the other jobs run first.
    """
    with ending():
        _run(Command(config_name, task, SHARED_SETTINGS | dict(settings or {}), announce))


def _run(command: Command) -> None:
    config_name = command.config_name
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let exceptions through to this function
    decorate = hydra.main(version_base="1.3", config_path=config_directory(), config_name=config_name)
    try:
        if _told_about_itself(config_name, sys.argv[1:]):
            return
        check_launch(sys.argv[1:])
        sys.argv[1:] = checked_arguments(sys.argv[1:])
        check_early(command, sys.argv[1:])
        decorate(_checked(command))()
    except USER_ERRORS as error:
        stop(error_line(config_name, error))
    except OSError as error:
        if error.errno not in (*DENIED, *DISK_FAILURES):
            raise
        named = (word.partition("=")[2] for word in sys.argv if word.startswith("hydra.run.dir="))
        stop(write_error_message(Path(error.filename or next(named, "a file of the output folder")), error))
    except KeyboardInterrupt:
        stop("stopped by the keyboard", status=130)


def _told_about_itself(config_name: str, arguments: Sequence[str]) -> bool:
    """Print the help or the version if they are asked for."""
    if {"--help", "-h"} & {*arguments}:
        print(help_text(config_name, arguments))
    elif "--version" in arguments:
        show_version()
    else:
        return False
    return True


def show_version() -> None:
    """Print the version, with the commit where the package runs from a git checkout."""
    print(f"vdm {code_version()}")


def _checked(command: Command) -> Callable[[DictConfig], Any]:
    """Return the command's task with its config checked first, and its errors as one line unless other jobs follow."""

    def checked(config: DictConfig) -> Any:
        try:
            for name in check(command, config, HydraConfig.instance().cfg.hydra):  # type: ignore[union-attr]
                print(f"note: nothing reads the setting {name!r}", file=sys.stderr)
            given: Any = OmegaConf.to_container(config, resolve=True)
            for name in command.settings.keys() & given.keys():
                check_value(given[name], command.settings[name], name)
            if command.config_name != "train" and "output_dir" in given:
                resolve_name("vdm.runs.folder:RunFolder")(given["output_dir"]).check_unused()  # which imports scipy
            _announce(command, config)
            task = resolve_name(command.task) if isinstance(command.task, str) else command.task
            quiet()
            resolve_name("vdm.cli.machine:prepare")()
            if "output_dir" in given:
                task = resolve_name("vdm.cli.logged:logged")(task)
            return task(config)
        except USER_ERRORS as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            stop(error_line(command.config_name, error))

    return checked


def _announce(command: Command, config: DictConfig) -> None:
    """Print what the command is about to do; in the first process of a run only."""
    if command.announce is not None and not any(int(os.environ.get(name, 0)) for name in RANKS):
        print(command.announce(config), file=sys.stderr, flush=True)


def error_line(config_name: str, error: BaseException) -> str:
    """Return an error as one line, with a hint where a name is unknown."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        known = ", ".join(error.options)
        return f"{group} has no option {option!r}{did_you_mean(option, error.options, f'it has {known}')}"
    text = str(error).partition("Config search path:")[0]
    line = " ".join(each.strip() for each in text.splitlines() if each.strip())
    if isinstance(error, ConfigCompositionException):
        hint = suggestion(config_name, error, sys.argv[1:])
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


def run_plain(task: Callable[[list[str]], None], usage: str) -> None:
    """Run the task of a command without a config on its arguments; ``--help``, ``--version`` and errors as in ``run``."""
    if {"--help", "-h"} & {*sys.argv}:
        print(usage)
    elif "--version" in sys.argv:
        show_version()
    else:
        try:
            task(sys.argv[1:])
        except InvalidInput as error:
            stop(str(error))
        except OSError as error:
            stop(one_line(error))


def stop(message: str, status: int = 2) -> NoReturn:
    """Print one line to standard error and exit."""
    print(f"{Path(sys.argv[0]).name}: {printable(message)}", file=sys.stderr)
    sys.exit(status)


def quiet() -> None:
    """Silence Lightning's notes and warnings, which do not concern the user."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", module="torch.utils.data")
