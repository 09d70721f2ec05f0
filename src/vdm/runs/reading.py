"""Reading files of a run folder, with one-line errors."""

import csv
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vdm.errors import InvalidInput, one_line, printable
from vdm.runs.bounds import DEPTH, JSON_BYTES, YAML_BYTES, check_tree, read_text

READ_ERRORS = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError),
    *(csv.Error, yaml.YAMLError, OmegaConfBaseException, HydraException),
)
"""Exceptions raised while reading a file that is damaged or that vdm did not write."""


INTERPOLATION = 1000  # longest text with an interpolation, whose grammar takes time


def read_yaml(path: Path) -> Any:
    """Return a yaml file as plain values, with interpolations left as text.

    Raises:
        InvalidInput: a file that is large, deeply nested, or refers to its own parts, which may multiply without bound.
    """
    text, depth = read_text(path, YAML_BYTES), 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise InvalidInput(f"{path} refers to its own parts (*{event.anchor}), which vdm never writes: write them out")
        long = isinstance(event, yaml.ScalarEvent) and "${" in event.value and len(event.value) > INTERPOLATION
        if depth > DEPTH or long:
            raise InvalidInput(f"{path} is nested deeper, or has longer interpolations, than vdm writes: use another file")
    return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=False)


def read_json(path: Path) -> Any:
    """Return a json file as plain values whose texts can go to a terminal and a page.

    Raises:
        InvalidInput: a file that is large.
    """
    tree = json.loads(read_text(path, JSON_BYTES))
    check_tree(tree, str(path))
    return shown(tree)


def shown(tree: Any) -> Any:
    """Return a tree of plain values with texts that can be shown: their control characters are replaced."""
    if isinstance(tree, dict):
        return {printable(key): shown(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [shown(value) for value in tree]
    return printable(tree) if isinstance(tree, str) else tree


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
        raise InvalidInput(f"{path} cannot be read ({one_line(error, 120, named=True)}): {remedy}") from error


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
