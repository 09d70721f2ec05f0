"""Files of a run folder, read so that every fault is one line."""

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vdm.errors import InvalidInput

UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    csv.Error,
    YAMLError,
    OmegaConfBaseException,
)
"""What reading a file raises that only bears the name of one that vdm writes."""


def read_yaml(path: Path) -> Any:
    """A yaml file as plain values, with whatever interpolations stand in it left as text."""
    return OmegaConf.to_container(OmegaConf.load(path), resolve=False)


@contextmanager
def reading_own_file(path: Path) -> Iterator[None]:
    """Raises InvalidInput for a file of a run that is to go on, and that is not as it was written."""
    try:
        if not path.is_file():
            raise OSError("no regular file")
        yield
    except UNREADABLE as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InvalidInput(
            f"{path} cannot be read ({reason[:120]}): restore it, or choose another hydra.run.dir="
        ) from error


def only_own_files(folder: Path) -> None:
    """Raises InvalidInput for what may lie in a folder that comes from anybody, and leads a report out of it, or nowhere.

    A report would show, or write to, what a link leads to, and wait for ever for what a pipe has to say.
    """
    home = os.path.realpath(folder)  # unlike resolve(), takes a link to itself
    for path in (each for depth in ("*", "pictures/*", ".hydra/*") for each in folder.glob(depth)):
        if not Path(os.path.realpath(path)).is_relative_to(home):
            raise InvalidInput(f"{path} is a link out of {folder}: a report shows what lies in the folder, so remove it")
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise InvalidInput(f"{path} is neither a file nor a folder: a report reads what lies in {folder}, so remove it")
