"""The command line before Hydra reads it: file names that need quotes, and choices of groups."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from hydra.errors import HydraException

from vdm.config.groups import config_directory
from vdm.errors import InvalidInput

DEFAULTS = ("experiment=null", "fid=null", "rung=null", "sweep=null")
"""Arguments that say the default, and that Hydra refuses."""

PLURAL = ("estimator", "logger", "relative")
"""Groups of which several options, or by [] none, may be chosen."""

PATHS = ("ckpt", "folder", "runs", "output_dir", "hydra.run.dir", "hydra.sweep.dir", "data.root", "data.cache")
"""Settings that are paths."""

ARGUMENT = re.compile(r"(?P<key>[+~]*[\w.@/]+)=(?P<value>[^\[{'\"].*)", re.DOTALL)
"""An argument whose value may be a path."""


def checked_arguments(arguments: Iterable[str]) -> list[str]:
    """Return the arguments for Hydra, without those that say the default and with paths quoted where Hydra needs it.

    What else Hydra cannot parse is left to Hydra.

    Raises:
        InvalidInput: a number, null or [] as the option of a group, a group under a longer name, a sweep over an empty
            range, or typed GPUs as a number of GPUs.
    """
    found = [_readable(argument) for argument in arguments if argument not in DEFAULTS]
    for argument in found:
        override = _parsed(argument)
        if override is not None:
            _check_choice(argument, override, override.key_or_group, override.value())
    return found


def _parsed(argument: str) -> Override | None:
    try:
        (override,) = OverridesParser.create().parse_overrides([argument])
    except HydraException:
        return None
    return override


def _readable(argument: str) -> str:
    """Return an argument that Hydra's grammar cannot read as a path in quotes, with ~ as the home folder."""
    match = ARGUMENT.fullmatch(argument)
    if match is None or (_parsed(argument) is not None and not match["value"].startswith("~/")):
        return argument
    path = str(Path(match["value"]).expanduser())
    if match["key"] not in PATHS and "/" not in path and not Path(path).exists():
        return argument
    quoted = f"{match['key']}='{_escaped(path)}'"
    return argument if _parsed(quoted) is None else quoted


def _escaped(text: str) -> str:
    return re.sub(r"(\\*)'", r"\1\1\\'", text)


def _check_choice(argument: str, override: Override, group: str, value: Any) -> None:
    if isinstance(value, RangeSweep):
        value.shuffle = False  # with it, Hydra would list the whole range first
        if next(override.sweep_string_iterator(), None) is None:
            raise InvalidInput(f"{argument} is an empty range, so there is nothing to run: its start lies beyond its end")
    if group == "hydra.launcher.gpus_per_node" and ":" in str(value):
        raise InvalidInput(
            f"{argument}: a type of GPU is a resource of its own: use hydra.launcher.gpus_per_node=null "
            f"+hydra.launcher.additional_parameters.gres=gpu:{value}"
        )
    folder = Path(config_directory()) / group
    if override.is_delete() or not folder.is_dir():
        _check_place_of_group(argument, group, value)
        return
    if override.is_add():
        raise InvalidInput(f"{argument}: {group} is a group, which is chosen without +: use {argument.lstrip('+')}")
    chosen = value.list if isinstance(value, ChoiceSweep) else [value]
    if group == "model" and any(str(each).startswith("rung_") for each in chosen):
        rungs = ",".join(str(each).removeprefix("rung_") for each in chosen)
        raise InvalidInput(f"{argument}: the rungs have a group of their own now: use rung={rungs}")
    _check_options(argument, group, chosen, sorted(path.stem for path in folder.glob("*.yaml")))


def _check_options(argument: str, group: str, chosen: Iterable[Any], known: list[str]) -> None:
    for each in chosen:
        if group == "learning_rate" and isinstance(each, float):
            raise InvalidInput(f"{argument}: the group chooses how it changes; the number is optimizer.lr={each}")
        if each is None or isinstance(each, int | float) or (each == [] and group not in PLURAL):
            raise InvalidInput(f"{argument} is not an option of {group}: choose one of {', '.join(known)}, or leave it out")


def _check_place_of_group(argument: str, key: str, value: Any) -> None:
    """Refuse ``model.schedule=cosine``, which means the option of a group."""
    outer, _, group = key.rpartition(".")
    if outer and isinstance(value, str) and (Path(config_directory()) / group / f"{value}.yaml").is_file():
        raise InvalidInput(f"{argument}: an option is chosen by its group: use {group}={value}")
