"""What a number depends on besides the config."""

import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import vdm
from vdm.data import DataModule
from vdm.data.overlap import shared


def changed_splits(about: Mapping[str, Any], trained: Any) -> list[str]:
    """Names of the splits that have other bytes than in ``trained``; none where that cannot be read."""
    now = fingerprints(about)
    return [name for name, sha256 in fingerprints(trained).items() if now.get(name) != sha256]


def fingerprints(about: Any) -> dict[str, str]:
    """The SHA-256 of each split, of what a provenance says of its data; none where that cannot be read."""
    try:
        return {str(name): str(split["sha256"]) for name, split in about["splits"].items()}
    except (TypeError, KeyError, AttributeError):
        return {}


def code_version() -> str:
    """The package's version, and the commit where it runs from a git checkout."""
    folder = Path(vdm.__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=folder, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return version("vdm")
    return f"{version('vdm')}+{described.stdout.strip()}"


def provenance(data: DataModule, seed: int) -> dict[str, Any]:
    """What a number depends on besides the config."""
    splits = data.splits()
    about: dict[str, Any] = dict(data.provenance())
    for name, entry in about["splits"].items():
        if name != "train":
            entry["in_training"] = shared(splits[name].x, splits["train"].x)
    return {
        "data": about,
        "seed": seed,
        "vdm": code_version(),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        **({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
    }
