"""Atomic writes, and messages for files that cannot be written."""

import errno
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from vdm.errors import InvalidInput

DISK_FAILURES = (errno.EIO, errno.ESTALE)  # error numbers of a failed disk or file server


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the disk into one InvalidInput that names ``path``, whoever writes it."""
    try:
        yield
    except FileNotFoundError:
        raise  # the folder is gone, which whoever holds it explains
    except OSError as error:
        raise InvalidInput(write_error_message(path, error)) from error


def write_png(path: Path, image: Any) -> None:
    """Write a picture of Pillow's or a figure of matplotlib's atomically."""
    content = BytesIO()
    if hasattr(image, "savefig"):
        image.savefig(content, format="png", dpi=120)
    else:
        image.save(content, format="PNG")
    write_atomically(path, content.getvalue())


def write_json(path: Path, content: Any) -> None:
    """Write a tree of plain values as JSON, atomically; NaN and infinity, which JSON lacks, become null."""
    write_atomically(path, (json.dumps(json_values(content), indent=2, allow_nan=False) + "\n").encode())


def json_values(tree: Any) -> Any:
    """Return a tree of plain values with null for every number that is not finite."""
    if isinstance(tree, Mapping):
        return {name: json_values(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [json_values(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary file in the same folder, then rename it: ``path`` never holds a part of ``content``.

    Raises:
        InvalidInput: a full disk, or a folder without permission to write; an existing file is unchanged.
    """
    with writing(path):
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


def write_error_message(path: Path, error: OSError) -> str:
    """Return the message for a file or folder at ``path`` that could not be written."""
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return not_a_folder_message(path)
    if error.errno in DISK_FAILURES:
        return (
            f"{path} is out of reach ({error.strerror}): its disk or file server failed; repair it, or choose another folder"
        )
    return f"{path} cannot be written ({error.strerror}): make room there, or choose another folder"


def not_a_folder_message(path: Path) -> str:
    """Return the message for a folder that cannot be made because it, or one of its parents, is a file."""
    file = next((each for each in (path, *path.parents) if each.is_file()), path)
    return f"{file} is a file, where a folder is needed: choose another folder"


def check_there(name: str, path: Path) -> None:
    """Raise InvalidInput if there is nothing at the ``path`` that the setting ``name`` gives."""
    if not path.exists():
        advice = "name a file that training wrote, such as …/checkpoints/last.ckpt"
        raise InvalidInput(
            f"no {'checkpoint' if name == 'ckpt' else name} at {path}{f': {advice}' if name == 'ckpt' else ''}"
        )


def check_is_folder(path: Path) -> None:
    """Raise InvalidInput if there is no folder at ``path`` that could hold a run or a sweep."""
    if not path.is_dir():
        raise InvalidInput(f"{path} holds no run: there is no such folder")


def remove_remnants(folder: Path) -> None:
    """Remove the temporary files of ``write_atomically`` that a killed process left in ``folder``."""
    for path in folder.glob(".*.*.????????"):
        path.unlink(missing_ok=True)
