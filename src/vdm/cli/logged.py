"""What a command prints, in its log file as well."""

import logging
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import wraps
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.profilers import PassThroughProfiler
from omegaconf import DictConfig

from vdm.errors import InvalidInput

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Colours and movements of the cursor."""


class Tee:
    """A text stream whose lines go to the log files of Python's root logger too: of a progress bar the last state.

    A reader of the stream that went away, as in ``vdm-train | head``, does not end the run.
    """

    def __init__(self, stream: Any) -> None:
        self.stream, self._line = stream, ""

    def write(self, text: str) -> int:
        *lines, rest = (self._line + text).split("\n")
        self._line = rest.rpartition("\r")[2]
        for line in lines:
            record(line.rstrip("\r").rpartition("\r")[2])
        with suppress(BrokenPipeError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(BrokenPipeError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def record(line: str) -> None:
    """Write a line to the log files, as it stands; a log that cannot be written ends no run."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler) and handler.stream is not None:
            with suppress(OSError):
                handler.stream.write(ESCAPES.sub("", line) + "\n")
                handler.flush()


def logged(task: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Return ``task`` with everything that it prints in the log as well, and how it ended: train.log, evaluate.log, …"""

    @wraps(task)
    def recorded(config: DictConfig) -> Any:
        with redirect_stdout(Tee(sys.stdout)), redirect_stderr(Tee(sys.stderr)):
            try:
                return task(config)
            except InvalidInput as error:
                record(f"refused: {error}")
                raise
            except Exception:
                record(traceback.format_exc())
                raise

    return recorded


def keep_profile(trainer: pl.Trainer, folder: Path) -> None:
    """Let a profiler of Lightning's without a file of its own write fit-profile.txt and so on in ``folder``."""
    profiler: Any = trainer.profiler  # type: ignore[attr-defined]
    if not isinstance(profiler, PassThroughProfiler) and not profiler.filename:
        profiler.dirpath, profiler.filename = profiler.dirpath or folder, "profile"
