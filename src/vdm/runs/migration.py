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

SOURCES = ("CIFAR10", "Digits", "FashionMNIST", "ImageFolder", "ImageNetArrays", "ImageNetPictures", "MNIST", "Toy")
"""Classes of ``vdm.data`` that were data modules in format 1, with all settings as arguments, and are sources today."""

GAMMA_ENDS = {"vdm.data.Toy": (-10.0, 6.0), "vdm.data.Digits": (-8.0, 5.0)}
"""γ_min and γ_max that come with a data set today; (−13.3, 5) for all others. Format 1 may lack them."""

POOLED = {"split_folders": "none", "levels": 256}  # how format 1 read a folder of images, whatever its folders are called
DROPPED = ("leg",)  # settings of format 1 that are no longer part of a config
CALLBACKS = {"KeepBest": "BestCheckpoint", "ProfileFile": "ProfileTable"}  # with a state in format 1: names then and today


def migrate_config(tree: Any) -> Any:
    """Return a resolved config, or a part of one, with the names that classes have today."""
    if isinstance(tree, list | tuple):
        return [migrate_config(value) for value in tree]
    if not isinstance(tree, dict):
        return tree
    found = {key: migrate_config(value) for key, value in tree.items() if key not in DROPPED}
    target = found.get("_target_")
    if not isinstance(target, str):
        return _with_gamma_ends(tree, found)
    if target.removeprefix("vdm.data.") in SOURCES and "batch_size" in found:
        folder = POOLED if target == "vdm.data.ImageFolder" else {}
        return found | {"_target_": "vdm.data.DataModule.of", "source": _source(target), **folder}
    return found | {"_target_": TARGETS.get(target, target)}


def _source(target: str) -> dict[str, Any]:
    """Return today's source of a format 1 data set; its settings stay beside those of the data module."""
    if target == "vdm.data.ImageFolder":
        shares = {"_target_": "vdm.data.folder.Shares", "_partial_": True}
        return {"_target_": f"{target}.of", "_partial_": True, "shares": shares}
    return {"_target_": target, "_partial_": True}


def _with_gamma_ends(tree: dict[str, Any], migrated: dict[str, Any]) -> dict[str, Any]:
    """Add the data set's γ ends to the config of a format 1 run, the one with ``levels``, whose model needed none."""
    old = tree["data"].get("_target_") if "levels" in tree and isinstance(tree.get("data"), dict) else None
    if old in (None, "vdm.data.DataModule.of"):
        return migrated
    low, high = GAMMA_ENDS.get(old, (-13.3, 5.0))
    return {"gamma_min": low, "gamma_max": high} | migrated


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
