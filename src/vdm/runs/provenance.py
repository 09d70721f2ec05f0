"""The provenance of a result: its data, seed, code version and machine."""

import platform
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import vdm
from vdm.data import DataModule

LIMIT = 2**30  # bytes of training examples above which other splits are not compared with them


def changed_splits(about: Mapping[str, Any], trained: Any) -> list[str]:
    """Return the names of the splits whose bytes differ between the ``data`` entries of two provenances."""
    now = fingerprints(about)
    return [name for name, sha256 in fingerprints(trained).items() if now.get(name) != sha256]


def fingerprints(about: Any) -> dict[str, str]:
    """Return the SHA-256 of each split in the ``data`` entry of a provenance; empty if the entry is malformed."""
    try:
        return {str(name): str(split["sha256"]) for name, split in about["splits"].items()}
    except (TypeError, KeyError, AttributeError):
        return {}


def code_version() -> str:
    """Return the version of the package, with the commit if it runs from a git checkout."""
    folder = Path(vdm.__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=folder, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return version("vdm")
    return f"{version('vdm')}+{described.stdout.strip()}"


def provenance(data: DataModule, seed: int) -> dict[str, Any]:
    """Return data, seed, code version and machine, for metrics.json and checkpoints."""
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


def shared(x: Tensor, training: Tensor, limit: int = LIMIT) -> int | None:
    """Count the examples x (N, *event) that are, byte for byte, among the training examples (M, *event).

    Compares 64-bit hashes of the bytes, random for each process: a false match has probability N M / 2⁶⁴. None if there are
    more than ``limit`` bytes.
    """
    if training.nbytes > limit:
        return None
    known = set(_hashes(training))
    return sum(one in known for one in _hashes(x))


def _hashes(x: Tensor) -> Iterator[int]:
    for rows in x.split(4096):
        for row in rows.flatten(1).contiguous().cpu().numpy():
            yield hash(row.tobytes())
