"""Checkpoints, read without running code."""

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vdm.errors import InvalidInput
from vdm.runs.migration import migrate_checkpoint_1

FORMAT = 2

KEY = "vdm"

Content = dict[str, Any]

MIGRATIONS: dict[int, Callable[[Content], Content]] = {1: lambda content: migrate_checkpoint_1(content, KEY)}
"""From the content of a checkpoint of an old format to that of the next."""

PROGRESS = {"optimizer_states": list, "lr_schedulers": list, "loops": dict, "callbacks": dict, "epoch": int}
"""What a run needs to go on, besides its weights; without ``loops`` Lightning would silently begin anew."""


class Checkpoint(NamedTuple):
    """What a checkpoint holds for those who evaluate it."""

    path: Path
    config: dict[str, Any]
    provenance: dict[str, Any]
    state: dict[str, Tensor]
    step: int

    def weights(self, ema: bool) -> dict[str, Tensor]:
        """The averaged weights, or the raw ones, by the model's own names."""
        prefix = "averaged.module." if ema else "model."
        return {name.removeprefix(prefix): value for name, value in self.state.items() if name.startswith(prefix)}


def read_content(path: Path) -> dict[str, Any]:
    """All that a checkpoint of this project holds: tensors and plain values only, nothing that could run.

    Raises:
        InvalidInput: a file that is missing, damaged, truncated or foreign, or of another format version; one line says
            which.
    """
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder: name the file, such as {path}/checkpoints/last.ckpt")
    if not path.is_file():
        raise InvalidInput(f"no checkpoint at {path}: name a file that training wrote, such as …/checkpoints/last.ckpt")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch does not look at the sums of what it reads
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} in it is not what was written")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file may raise anything
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = "more in it than tensors and plain values" if isinstance(error, pickle.UnpicklingError) else first
        raise InvalidInput(
            f"{path} cannot be read as a checkpoint ({reason[:120]}): it is damaged, truncated or not a checkpoint; use "
            "another one"
        ) from error
    if not isinstance(content, dict) or KEY not in content:
        raise InvalidInput(f"{path} is not a checkpoint of vdm: it carries no {KEY!r} entry")
    return migrated(content, path, MIGRATIONS, FORMAT)


def migrated(content: Content, path: Path, migrations: Mapping[int, Callable[[Content], Content]], latest: int) -> Content:
    """``content``, taken from its format to the ``latest`` one by one.

    Raises:
        InvalidInput: a newer format, or an old one from which no migration leads on; or none.
    """
    own = content[KEY]
    found = own.get("format") if isinstance(own, dict) else None
    if not isinstance(found, int):
        raise InvalidInput(f"{path} is not a checkpoint of vdm: it names no format")
    while found != latest:
        if found not in migrations:
            about = own.get("provenance")
            written = about.get("vdm", "another version") if isinstance(about, dict) else "another version"
            raise InvalidInput(f"{path} has format {found} (vdm {written}), this version reads {latest}: use a matching vdm")
        content, found = migrations[found](content), found + 1
    return content


def read_checkpoint(path: str | Path, go_on: bool = False) -> Checkpoint:
    """What ``read_content`` gives, for those who evaluate; it raises the same.

    Args:
        go_on: refuse a file from which no run can go on.
    """
    content = read_content(Path(path))
    own = content[KEY]
    try:
        found = Checkpoint(Path(path), own["config"], own["provenance"], content["state_dict"], content["global_step"])
    except KeyError as error:
        raise InvalidInput(f"{path} is not a whole checkpoint of vdm: it has no {error}") from error
    kinds = {"config": dict, "provenance": dict, "state": dict, "step": int}
    for name, kind in (kinds | PROGRESS if go_on else kinds).items():
        if not isinstance((content | found._asdict()).get(name), kind):
            raise InvalidInput(f"{path} is not a checkpoint of vdm: its {name} is no {kind.__name__}; use another one")
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in found.state.items()):
        raise InvalidInput(f"{path} is not a checkpoint of vdm: its state is more than tensors by name; use another one")
    return found
