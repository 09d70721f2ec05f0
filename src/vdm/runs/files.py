"""Files that are written whole or not at all, and messages on those that cannot be written."""

import errno
import hashlib
import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from vdm.errors import InvalidInput


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def remove_remnants(folder: Path) -> None:
    """Remove what ``write_atomically`` leaves of a file when its process is killed in the middle of it."""
    for path in folder.glob(".*.*.????????"):
        path.unlink(missing_ok=True)
