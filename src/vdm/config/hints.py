"""Suggestions for misspelt or unknown settings."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import OmegaConf

import vdm
from vdm.errors import InvalidInput, did_you_mean

HELP = "--help lists the settings"
COLLECTIONS = ("experiment", "rung", "sweep", "model")  # groups whose options repeat settings of other groups
DEFAULTS = ("experiment=null", "fid=null", "rung=null", "sweep=null")  # arguments that say the default; Hydra refuses them
PLURAL = ("estimator", "logger", "relative")  # groups of which several options, or by [] none, may be chosen
DATA_FACTS = ("levels", "sigma_data", "gamma_min", "gamma_max")  # settings that come with data=, at the top of a config


def config_directory() -> str:
    """Return the folder of Hydra's groups: inside the installed package, or at the top of a checkout."""
    package = Path(vdm.__file__).parent
    packaged = package / "configs"
    return str(packaged if packaged.is_dir() else package.parents[1] / "configs")


def names(config_name: str, depth: int) -> list[str]:
    """Return the groups and the settings of the default config, the latter as dotted names of at most ``depth`` parts."""
    saved = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(config_directory(), version_base="1.3"):
        groups = [group for group in GlobalHydra.instance().config_loader().get_group_options("", None) if "." not in group]
        config = hydra.compose(config_name)
    GlobalHydra.instance().hydra = saved
    return sorted({*groups, *_below(OmegaConf.to_container(config, resolve=False), "", depth)})


def suggestion(config_name: str, message: str) -> str:
    """Return a hint to append to Hydra's ``message`` on an unknown setting; empty for any other message."""
    found = re.search(r"(?:Could not override|Key) '([^']+)'", message)
    if not found:
        return ""
    having = owners(found[1])
    if having:
        return f"; it is a setting of {' or '.join(having)}"
    return did_you_mean(found[1], names(config_name, depth=9), HELP)


def check_choices(arguments: Iterable[str]) -> None:
    """Check the options that the command line chooses, and its sweeps; what Hydra cannot parse is left to Hydra.

    Raises:
        InvalidInput: a number, null or [] as the option of a group, or a sweep over an empty range.
    """
    for argument in arguments:
        try:
            (override,) = OverridesParser.create().parse_overrides([argument])
        except HydraException:
            continue
        _check_choice(argument, override, override.key_or_group, override.value())


def owners(setting: str) -> list[str]:
    """Return the options, such as time=discrete, that have a setting of this dotted name."""
    having = []
    for path in sorted(Path(config_directory()).glob("*/*.yaml")):
        package = re.match(r"# @package (\S+)", path.read_text())
        place = path.parent.name if package is None else package[1].replace("_global_", "")
        tree = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        if path.parent.name not in COLLECTIONS and setting in _below(tree, f"{place}." if place else "", depth=9):
            having.append(f"{path.parent.name}={path.stem}")
    return having


def _check_choice(argument: str, override: Override, group: str, value: Any) -> None:
    if isinstance(value, RangeSweep):
        value.shuffle = False  # with it, Hydra would list the whole range first
        if next(override.sweep_string_iterator(), None) is None:
            raise InvalidInput(f"{argument} is an empty range, so there is nothing to run: its start lies beyond its end")
    folder = Path(config_directory()) / group
    if override.is_delete() or not folder.is_dir():
        return
    chosen = value.list if isinstance(value, ChoiceSweep) else [value]
    if group == "model" and any(str(each).startswith("rung_") for each in chosen):
        rungs = ",".join(str(each).removeprefix("rung_") for each in chosen)
        raise InvalidInput(f"{argument}: the rungs have a group of their own now: use rung={rungs}")
    for each in chosen:
        if each is None or isinstance(each, int | float) or (each == [] and group not in PLURAL):
            known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
            raise InvalidInput(f"{argument} is not an option of {group}: choose one of {known}, or leave it out")


def _below(node: Any, prefix: str, depth: int) -> Iterator[str]:
    if isinstance(node, dict) and depth:
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from _below(value, f"{prefix}{key}.", depth - 1)
