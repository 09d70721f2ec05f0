"""From files of earlier versions to today's: names that moved, and settings that changed their form.

Format 1 is that of version 0.1.0 up to commit f54d3ea. The functions leave today's files as they are.
"""

from collections.abc import Mapping
from typing import Any

TARGETS = {
    "vdm.evaluation.Target": "vdm.evaluation.StratifiedBound",
    "vdm.models.LearnedGenerator": "vdm.models.LearnedConditionalPrior",
    "vdm.models.PrecisionWeighted": "vdm.models.LadderEncoder",
    "vdm.networks.JoinConv": "vdm.networks.FusionConv",
    "vdm.networks.JoinMLP": "vdm.networks.FusionMLP",
}
"""``_target_`` of format 1 and today's name of the same class."""

DROPPED = ("leg",)
"""Settings of format 1 that are no longer part of a config."""

CALLBACKS = {"KeepBest": "BestCheckpoint", "ProfileFile": "ProfileTable"}
"""Callbacks with a state in format 1 checkpoints, and their names today."""


def migrate_config(tree: Any) -> Any:
    """Return a resolved config, or a part of one, with the names that classes have today."""
    if isinstance(tree, list | tuple):
        return [migrate_config(value) for value in tree]
    if not isinstance(tree, dict):
        return tree
    found = {key: migrate_config(value) for key, value in tree.items() if key not in DROPPED}
    target = found.get("_target_")
    return found | {"_target_": TARGETS[target]} if isinstance(target, str) and target in TARGETS else found


def migrate_checkpoint_1(content: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the content of a format 1 checkpoint in format 2.

    Args:
        key: where the checkpoint keeps format, config and provenance.
    """
    own: Mapping[str, Any] = content[key]
    states = content.get("callbacks")
    renamed = {_callback(str(name)): state for name, state in states.items()} if isinstance(states, dict) else states
    return {**content, **({} if states is None else {"callbacks": renamed}), key: {**migrate_config(dict(own)), "format": 2}}


def _callback(key: str) -> str:
    """Return today's state key of a callback: the class, then settings in braces."""
    name, brace, settings = key.partition("{")
    return f"{CALLBACKS.get(name, name)}{brace}{settings}"
