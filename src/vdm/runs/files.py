"""Files that are whole or not there, and what is said of those that cannot be written or read."""

import csv
import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vdm.errors import InvalidInput


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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

OUT_OF_REACH = (errno.EIO, errno.ESTALE)
"""What the operating system says where a disk or a file server failed."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside ``path``, then rename: the file is the old one or the new one, never a part.

    Raises:
        InvalidInput: a full disk, or a folder that may not be written to; what was there is still whole.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, 0o644)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise InvalidInput(unwritable(path, error)) from error


def unwritable(path: Path, error: OSError) -> str:
    """What to say of a file or folder that the operating system did not let be written, or whose disk it does not reach."""
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return a_file_where(path)
    if error.errno in OUT_OF_REACH:
        return (
            f"{path} is out of reach ({error.strerror}): its disk or file server failed; mend that, or choose another folder"
        )
    return f"{path} cannot be written ({error.strerror}): make room there, or choose another folder"


def a_file_where(path: Path) -> str:
    """What to say of a folder that cannot be made because it, or one that it lies in, is a file."""
    file = next((each for each in (path, *path.parents) if each.is_file()), path)
    return f"{file} is a file, where a folder is needed: choose another folder"


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


def remove_remnants(folder: Path) -> None:
    """Remove what ``write_atomically`` leaves of a file when its process is killed in the middle of it."""
    for path in folder.glob(".*.*.????????"):
        path.unlink(missing_ok=True)
