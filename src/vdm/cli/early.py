"""The checks of a command's config by names and files alone, before anything heavy is imported."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vdm.config.groups import config_directory
from vdm.config.hints import suggestion
from vdm.config.instantiate import nodes
from vdm.config.root import unread
from vdm.errors import InvalidInput
from vdm.runs.files import check_there


class Command(NamedTuple):
    """A command with a config.

    Attributes:
        config_name: the yaml in configs/.
        task: a function of the config, or its name, ``module:function``, which is imported after the checks of names.
        settings: types of settings that are not arguments of any part.
        announce: returns what the command is about to do, in one line; printed before anything heavy is imported.
    """

    config_name: str
    task: Callable[[DictConfig], Any] | str
    settings: Mapping[str, Any]
    announce: Callable[[DictConfig], str] | None = None


def check_early(command: Command, arguments: list[str]) -> None:
    """Compose once and refuse what names and files tell; Hydra itself would compose twice before it did.

    Hydra's flags, sweeps, and its own errors but for unknown names and options are left to Hydra.
    """
    if any(argument.startswith("-") for argument in arguments):
        return
    try:
        with hydra.initialize_config_dir(config_directory(), version_base="1.3"):
            config = hydra.compose(command.config_name, overrides=arguments, return_hydra_config=True)
    except MissingConfigException:
        raise
    except (HydraException, OmegaConfBaseException) as error:
        if suggestion(command.config_name, error, arguments):
            raise
        return
    if config.hydra.mode != RunMode.MULTIRUN:
        check(command, config, config.hydra)


def check(command: Command, config: DictConfig, own: DictConfig) -> list[str]:
    """Refuse what can be refused by names and files alone, and return the settings that nothing reads.

    Args:
        own: Hydra's own config.

    Raises:
        InvalidInput: a missing mandatory setting, one that the command does not have, a missing checkpoint, or a launcher
            that nothing would use.
    """
    tree: Any = OmegaConf.to_container(config, resolve=False)
    tree.pop("hydra", None)
    missing = [name for name, value in nodes(tree) if value == "???"]
    if missing:
        raise InvalidInput(f"{missing[0]} is needed: add {missing[0]}=… to the command")
    launcher = own.runtime.choices.get("hydra/launcher", "basic")
    if own.mode != RunMode.MULTIRUN and launcher != "basic":
        raise InvalidInput(f"hydra/launcher={launcher} starts the jobs of -m, and this would run here: add -m")
    for name in ("ckpt", "file"):
        if name in command.settings and isinstance(tree.get(name), str) and "${" not in tree[name]:
            check_there(name, Path(tree[name]))
    hydra_tree: Any = OmegaConf.to_container(own, resolve=False)
    return unread(command.config_name, tree, hydra_tree, sys.argv[1:])
