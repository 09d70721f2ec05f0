"""Why a run ended: the first cause, from whichever of its processes it came."""

import time
from contextlib import suppress
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only
from torch import distributed

from vdm.errors import InvalidInput, one_line, printable
from vdm.runs.files import write_atomically
from vdm.runs.folder import RunFolder

SIGNS = ("closed by peer", "reset by peer", "Broken pipe", "gloo", "NCCL", "TCPStore", "Timed out waiting")
"""Parts of the messages of torch.distributed about a process that is gone or hangs."""

CONSEQUENCE = "another process of this run ended or hangs, and left no reason"
PATIENCE_S = 2.0
"""Seconds to wait for the other process to write its reason."""


def is_consequence(error: BaseException) -> bool:
    """Return whether ``error`` says only that another process is gone."""
    known = isinstance(error, distributed.DistError) or type(error) is RuntimeError
    return known and any(sign in str(error) for sign in SIGNS)


def note_failure(folder: RunFolder, error: BaseException, since: float, processes: int = 1) -> str | None:
    """Write ``error`` to failure.txt, unless the folder was removed; return the cause if another process wrote one.

    All processes call it. The first cause stays; a consequence is replaced by a cause.

    Args:
        since: when this process began, in seconds since the epoch; an older file is an earlier start's.
        processes: of the run.
    """
    found = _noted(folder, since)
    if found is not None:
        return found
    consequence = processes > 1 and is_consequence(error)
    reason = one_line(error, named=True)
    where = f" (rank {getattr(rank_zero_only, 'rank', 0)} of {processes})" if processes > 1 else ""
    removed = isinstance(error, FileNotFoundError) and Path(error.filename or "").is_relative_to(folder.root)
    if folder.root.is_dir() and not removed:
        with suppress(InvalidInput):  # a second failure must not hide the first
            line = f"{CONSEQUENCE} ({reason})" if consequence else reason
            write_atomically(folder.failure, f"{printable(line)}{where}\n".encode())
    deadline = time.monotonic() + (PATIENCE_S if consequence else 0)  # Lightning may kill this process meanwhile
    while (found := _noted(folder, since) if consequence else None) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _noted(folder: RunFolder, since: float) -> str | None:
    """Return the cause that a process of this run has written, if it is one."""
    try:
        text, written = folder.failure.read_text().strip(), folder.failure.stat().st_mtime
    except OSError:
        return None
    return None if text.startswith(CONSEQUENCE) or written < since else text
