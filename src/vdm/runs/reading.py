"""Reading files of a run folder, with one-line errors."""

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vdm.errors import InvalidInput

READ_ERRORS = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError),
    *(csv.Error, YAMLError, OmegaConfBaseException, HydraException),
)
"""Exceptions raised while reading a file that is damaged or that vdm did not write."""


def read_yaml(path: Path) -> Any:
    """Return a yaml file as plain values, with interpolations left as text."""
    return OmegaConf.to_container(OmegaConf.load(path), resolve=False)


@contextmanager
def reading(path: Path, remedy: str = "restore it, or name another folder") -> Iterator[None]:
    """Turn any error caused by a malformed file or folder at ``path`` into one InvalidInput that ends with ``remedy``."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise OSError("no regular file")  # reading a pipe could wait forever
        yield
    except InvalidInput:
        raise
    except READ_ERRORS as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InvalidInput(f"{path} cannot be read ({reason[:120]}): {remedy}") from error


def check_contained(folder: Path) -> None:
    """Raise InvalidInput for a link out of ``folder``, and for a pipe or device in it.

    A report on a foreign folder would show, or write to, the target of a link, and wait forever for a pipe.
    """
    root = os.path.realpath(folder)  # unlike resolve(), this accepts a link to itself
    for path in (entry for pattern in ("*", "pictures/*", ".hydra/*") for entry in folder.glob(pattern)):
        if not Path(os.path.realpath(path)).is_relative_to(root):
            raise InvalidInput(f"{path} is a link out of {folder}, which a report does not follow: remove it")
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise InvalidInput(f"{path} is neither a file nor a folder: remove it")
