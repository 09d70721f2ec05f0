"""Checkpoints, read without running code."""

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from vdm.errors import InvalidInput, one_line
from vdm.runs.bounds import check_archive, check_tensors, check_tree, load_without_code
from vdm.runs.migration import migrate_checkpoint_1

FORMAT = 2
KEY = "vdm"  # entry of a checkpoint with its format, the run's config and provenance
Content = dict[str, Any]

MIGRATIONS: dict[int, Callable[[Content], Content]] = {1: lambda content: migrate_checkpoint_1(content, KEY)}
"""By format: the conversion of a checkpoint's content to the next format."""

TRAINING_STATE = {"optimizer_states": list, "lr_schedulers": list, "loops": dict, "callbacks": dict, "epoch": int}
"""Entries that resuming needs besides the weights; without ``loops`` Lightning would silently start at step 0."""


class Checkpoint(NamedTuple):
    """The part of a checkpoint that an evaluation needs.

    Attributes:
        config: the run's resolved config.
        state: the raw and the averaged weights by their names in the training task.
        step: optimiser steps taken.
    """

    path: Path
    config: dict[str, Any]
    provenance: dict[str, Any]
    state: dict[str, Tensor]
    step: int
    run_id: str | None = None

    def weights(self, ema: bool) -> dict[str, Tensor]:
        """Return the averaged weights, or the raw ones, by their names in the model."""
        prefix = "averaged.module." if ema else "model."
        return {name.removeprefix(prefix): value for name, value in self.state.items() if name.startswith(prefix)}


def read_content(path: Path) -> Content:
    """Return the whole content of a checkpoint of this project: tensors and plain values, no code.

    Raises:
        InvalidInput: a file that is missing, damaged, truncated, not a checkpoint of vdm, or of another format.
    """
    if os.path.isdir(path):
        raise InvalidInput(f"{path} is a folder: name the file, such as {path}/checkpoints/last.ckpt")
    if not os.path.isfile(path):  # also for a name that is too long to exist, unlike Path.is_file
        raise InvalidInput(f"no checkpoint at {path}: name a file that training wrote, such as …/checkpoints/last.ckpt")
    try:
        check_archive(path)
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch does not verify the checksums
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} in it is not what was written")
        content = load_without_code(path)
    except InvalidInput:
        raise
    except Exception as error:  # a damaged file may raise anything
        reason = one_line(error, 120)
        raise InvalidInput(
            f"{path} cannot be read as a checkpoint ({reason}): it is damaged, truncated or not a checkpoint; use "
            "another one"
        ) from error
    if not isinstance(content, dict) or KEY not in content:
        raise InvalidInput(f"{path} is not a checkpoint of vdm: it has no {KEY!r} entry")
    check_tree(content[KEY], f"{path}: its entry {KEY!r}")
    check_tree(content.get("callbacks"), f"{path}: its entry 'callbacks'")
    return migrated(content, path, MIGRATIONS, FORMAT)


def migrated(content: Content, path: Path, migrations: Mapping[int, Callable[[Content], Content]], latest: int) -> Content:
    """Return ``content`` converted from its format to ``latest``, one format at a time.

    Raises:
        InvalidInput: a newer format, an old one without a migration, or no format.
    """
    entry = content[KEY]
    version = entry.get("format") if isinstance(entry, dict) else None
    if not isinstance(version, int):
        raise InvalidInput(f"{path} is not a checkpoint of vdm: it names no format")
    while version != latest:
        if version not in migrations:
            provenance = entry.get("provenance")
            writer = provenance.get("vdm", "another version") if isinstance(provenance, dict) else "another version"
            raise InvalidInput(
                f"{path} has format {version} (vdm {writer}), this version reads {latest}: use a matching vdm"
            )
        content, version = migrations[version](content), version + 1
    return content


def read_checkpoint(path: str | Path, for_resuming: bool = False) -> Checkpoint:
    """Return a checkpoint for an evaluation, or for resuming its run.

    Args:
        for_resuming: whether to refuse a checkpoint without training state.

    Raises:
        InvalidInput: see ``read_content``; an entry that is missing or of the wrong type.
    """
    content = read_content(Path(path))
    entry = content[KEY]
    try:
        checkpoint = Checkpoint(
            Path(path),
            entry["config"],
            entry["provenance"],
            content["state_dict"],
            content["global_step"],
            entry.get("run_id"),
        )
    except KeyError as error:
        raise InvalidInput(f"{path} is not a whole checkpoint of vdm: it has no {error}; use another one") from error
    types = {"config": dict, "provenance": dict, "state": dict, "step": int}
    for name, expected in (types | TRAINING_STATE if for_resuming else types).items():
        if not isinstance((content | checkpoint._asdict()).get(name), expected):
            raise InvalidInput(f"{path} is not a checkpoint of vdm: its {name} is no {expected.__name__}; use another one")
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in checkpoint.state.items()):
        raise InvalidInput(f"{path} is not a checkpoint of vdm: its state is more than tensors by name; use another one")
    check_tensors(checkpoint.state, checkpoint.path)
    return checkpoint


def check_own(path: Path, written: object, own: str | None) -> None:
    """Raise InvalidInput if the checkpoint at ``path`` was written by another run than ``own``, as far as it says."""
    if written is not None and own is not None and written != own:
        raise InvalidInput(
            f"{path} was written by another run ({str(written)[:20]}, not {own}): put this run's own back, or remove it and "
            "start in another folder"
        )
