"""What someone may have meant who named a setting that there is not."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, RangeSweep
from hydra.errors import HydraException
from omegaconf import OmegaConf

import vdm
from vdm.errors import InvalidInput, did_you_mean

HELP = "--help lists the settings"

COLLECTIONS = ("experiment", "rung", "sweep", "model")
"""Groups whose options repeat the settings of others."""

DEFAULTS = ("experiment=null", "fid=null", "rung=null", "sweep=null")
"""Arguments that say the default, and that Hydra refuses."""

PLURAL = ("estimator", "logger", "relative")
"""Groups of which none may be chosen, by []."""


def config_directory() -> str:
    """The folder of Hydra's groups: inside the installed package, or at the top of a checkout."""
    package = Path(vdm.__file__).parent
    packaged = package / "configs"
    return str(packaged if packaged.is_dir() else package.parents[1] / "configs")


def names(config_name: str, depth: int) -> list[str]:
    """Names of the groups and of the settings of the default config, down to ``depth`` dots."""
    saved = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(config_directory(), version_base="1.3"):
        groups = [group for group in GlobalHydra.instance().config_loader().get_group_options("", None) if "." not in group]
        config = hydra.compose(config_name)
    GlobalHydra.instance().hydra = saved
    return sorted({*groups, *_below(OmegaConf.to_container(config, resolve=False), "", depth)})


def suggestion(config_name: str, message: str) -> str:
    """How Hydra's ``message`` on an unknown setting goes on."""
    found = re.search(r"(?:Could not override|Key) '([^']+)'", message)
    if not found:
        return ""
    having = owners(found[1])
    if having:
        return f"; it is a setting of {' or '.join(having)}"
    return did_you_mean(found[1], names(config_name, depth=9), HELP)


def check_choices(arguments: Iterable[str]) -> None:
    """Raises InvalidInput for a group's option that is no name, and a sweep over no value; the rest is Hydra's to say."""
    for argument in arguments:
        try:
            (override,) = OverridesParser.create().parse_overrides([argument])
        except HydraException:
            continue
        name, value = override.key_or_group, override.value()
        if isinstance(value, RangeSweep):
            value.shuffle = False  # Hydra would make the whole list of it first
            if next(override.sweep_string_iterator(), None) is None:
                raise InvalidInput(
                    f"{argument} is a range of no value, so there is nothing to run: its end lies above its start"
                )
        folder = Path(config_directory()) / name
        chosen = value.list if isinstance(value, ChoiceSweep) else [value]
        if override.is_delete() or not folder.is_dir():
            continue
        if name == "model" and any(str(each).startswith("rung_") for each in chosen):
            rungs = ",".join(str(each).removeprefix("rung_") for each in chosen)
            raise InvalidInput(f"{argument}: the rungs have a group of their own now: use rung={rungs}")
        if any(each is None or isinstance(each, int | float) or (each == [] and name not in PLURAL) for each in chosen):
            known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
            raise InvalidInput(f"{argument} names no option of {name}: choose of {known}, or leave it out for the default")


def owners(setting: str) -> list[str]:
    """The options with a setting of this dotted name, such as time=discrete, for when the option chosen has none."""
    having = []
    for path in sorted(Path(config_directory()).glob("*/*.yaml")):
        package = re.match(r"# @package (\S+)", path.read_text())
        place = path.parent.name if package is None else package[1].replace("_global_", "")
        tree = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        if path.parent.name not in COLLECTIONS and setting in _below(tree, f"{place}." if place else "", depth=9):
            having.append(f"{path.parent.name}={path.stem}")
    return having


def _below(node: Any, prefix: str, depth: int) -> Iterator[str]:
    if isinstance(node, dict) and depth:
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from _below(value, f"{prefix}{key}.", depth - 1)
