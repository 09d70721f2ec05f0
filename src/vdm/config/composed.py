"""Configs that the user composed: plain values, and objects with every name allowed."""

from typing import Any

from omegaconf import OmegaConf

from vdm.config.instantiate import instantiate
from vdm.config.trust import TrustEverything

OWN_CONFIG = TrustEverything()
"""For what the user composed on the command line."""


def to_plain(config: Any) -> Any:
    """A composed config, or a part of one, as plain values."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


def instantiate_own(config: Any, place: str) -> Any:
    """A part that the user composed; None of None."""
    return instantiate(to_plain(config), OWN_CONFIG, place)
