"""Files that are fetched where they are missing or broken."""

import fcntl
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar

from vdm.errors import InvalidInput

T = TypeVar("T")


def read_or_fetch(read: Callable[[], T], root: Path, place: str, download: Callable[[str], Any], source: str) -> T:
    """What ``read`` returns; where it refuses a file, the files are fetched and it is asked again.

    They are fetched beside their place and moved into it, by one process while others wait: each is whole or not there.

    Args:
        read: raises InvalidInput where a file is missing or not whole.
        root: the files belong into the folder ``place`` of it.
        download: given a folder, leaves them in the folder ``place`` of that.
        source: where they come from, for the message.

    Raises:
        InvalidInput: they cannot be fetched or kept; or whatever ``read`` says of them.
    """
    with suppress(InvalidInput):
        return read()
    part, folder = root / ".fetched.part", root / place
    try:
        root.mkdir(parents=True, exist_ok=True)
        with part.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with suppress(InvalidInput):  # another process may have fetched them
                return read()
            shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
            try:
                download(str(part))
                folder.mkdir(parents=True, exist_ok=True)
                for path in (part / place).iterdir():
                    os.replace(path, folder / path.name)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except (OSError, RuntimeError, HTTPException) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InvalidInput(f"{source} cannot be fetched ({reason}): put its files into {folder} by other means") from error
    return read()
