"""Configs composed by the user: conversion to plain values, and objects with every name allowed."""

from typing import Any

from omegaconf import OmegaConf

from vdm.config.instantiate import instantiate
from vdm.config.trust import TrustEverything

OWN_CONFIG = TrustEverything()  # the trust in a config that the user composed on the command line


def to_plain(config: Any) -> Any:
    """Return a composed config, or a part of one, as resolved plain values."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


def instantiate_own(config: Any, place: str) -> Any:
    """Instantiate a part of the user's config, found at ``place``; None stays None."""
    return instantiate(to_plain(config), OWN_CONFIG, place)
