"""What there is to test: the options of every group of configs, and the concrete classes of every kind of part."""

import inspect
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from vdm.config.composed import instantiate_own
from vdm.config.hints import config_directory

CONFIGS = Path(config_directory())


def options(group: str) -> list[str]:
    """The yaml files of a group, by name."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def composed(*overrides: str, config: str = "train") -> DictConfig:
    """A config as the command would see it."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        folder = "folder" if config in ("export", "compress", "decompress") else "output_dir"
        return compose(config, overrides=[f"{folder}=unused", *overrides])


def part(path: str, *overrides: str) -> Any:
    """One part of a composed config, instantiated: ``part("model.schedule", "schedule=cosine")``."""
    node = composed(*overrides)
    for key in path.split("."):
        node = node[key]
    return instantiate_own(node, path)


def concrete(base: type) -> set[type]:
    """All final classes of this package below ``base``."""
    found = set()
    for child in base.__subclasses__():
        found |= concrete(child)
        if not inspect.isabstract(child) and child.__module__.startswith("vdm."):
            found.add(child)
    return found
