"""The settings at the top of a composed config: those of the command, and helpers that the user's own files add."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from vdm.config.groups import groups, root_names
from vdm.config.hints import HELP, below, meant
from vdm.config.instantiate import nodes
from vdm.errors import InvalidInput

LABELS = ("tags", "task_name")
"""Names that Hydra projects give their runs; config.yaml keeps them, and nothing reads them."""

UNLISTED = {"train": {"laws"}, "evaluate": {"laws"}}
"""Settings that a command takes by + and that no config lists, because few should use them."""

NAME = re.compile(r"\$\{\s*(?:oc\.select:\s*)?(\w+)|[{:,]\s*(\w+)")


def unread(config_name: str, config: Mapping[str, Any], hydra: Mapping[str, Any], arguments: Sequence[str]) -> list[str]:
    """Return the settings at the top of ``config`` that neither the command nor an interpolation reads.

    Args:
        config: with its interpolations as text.
        hydra: Hydra's own config, likewise.

    Raises:
        InvalidInput: such a setting from the command line, or with nearly the name of one that exists.
    """
    unknown = set(map(str, config)) - root_names(config_name) - {*LABELS} - UNLISTED.get(config_name, set())
    if not unknown:
        return []
    found = sorted(unknown - _interpolated(config) - _interpolated(hydra))
    given = {each.lstrip("+").partition("=")[0].partition(".")[0] for each in arguments}
    known = [*(name for name in below(config) if name not in found), *(group.name for group in groups(config_name))]
    for name in found:
        hint = meant(config_name, name, known, arguments)
        if name in given or HELP not in hint:
            raise InvalidInput(f"there is no setting {name!r}{hint}")
    return found


def _interpolated(tree: Any) -> set[str]:
    """Return every name in the interpolations of a config."""
    texts = [value for _, value in nodes(tree) if isinstance(value, str) and "${" in value]
    return {name for text in texts for groups in NAME.findall(text) for name in groups if name}
