"""Signals: they end a command at once, and training at the end of a step.

This module imports nothing heavy, so that a command can listen before it imports the rest.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

ENDING = (signal.SIGTERM, signal.SIGINT)
"""Signals that end a command with status 128 + signal: 143, 130."""

_children: list[Callable[[int], Any]] = []
"""Called with a signal's number before this process ends: they pass it on to the processes that it started."""


@contextmanager
def ending() -> Iterator[None]:
    """Let ``ENDING`` end the process at once, with one line and the signal's status.

    Raising an exception instead would not do: one that is raised inside a destructor or a callback of C code is swallowed,
    and a caller may take it for the end of its work. Handlers that are installed already stay, such as submitit's.
    """
    replaced = {}
    with suppress(ValueError):  # outside the main thread Python installs none
        for number in ENDING:
            earlier = signal.getsignal(number)
            if earlier in (signal.SIG_DFL, signal.default_int_handler):
                replaced[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, earlier in replaced.items():
            signal.signal(number, earlier)
        _children.clear()


def end(number: int, frame: FrameType | None = None) -> None:
    """End the process: pass the signal on to its children, print one line, exit with 128 + ``number``; a signal handler."""
    for pass_on in _children:
        with suppress(Exception):
            pass_on(number)
    line = f"\n{Path(sys.argv[0]).name}: stopped by {signal.Signals(number).name}; nothing was written since the last save\n"
    with suppress(Exception):
        sys.stdout.flush()
    with suppress(OSError):
        os.write(2, line.encode())
    os._exit(128 + number)


def keep_lightning_out(trainer: Any) -> None:
    """Keep ``trainer`` from installing handlers of its own, and pass signals on to the processes that it starts.

    Lightning's handler of SIGTERM lets the process go on until the end of a training step, which may never come, waits for
    processes that may be gone, and ends with status 0.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None
    launcher = trainer.strategy.launcher
    if hasattr(launcher, "kill"):
        _children[:] = [launcher.kill]


class Signals:
    """Handlers that only store which signals arrived: they may run in the middle of a collective operation.

    Handles SIGTERM and SIGINT, and those of ``forwarded`` that already have a handler; ``forward`` calls that handler later.
    A second SIGINT ends the process at once.
    """

    forwarded = (signal.SIGUSR2,) if hasattr(signal, "SIGUSR2") else ()
    """Submitit's signal for the time limit and for pre-emption; Windows has none."""

    by_priority = (*forwarded, signal.SIGTERM, signal.SIGINT)
    """All handled signals; of several received ones the first is acted on."""

    def __init__(self) -> None:
        self.received: set[signal.Signals] = set()
        self._earlier: dict[signal.Signals, Any] = {}

    def listen(self) -> None:
        """Install the handlers. Python allows this in the main thread only."""
        self.received = set()
        for number in self.by_priority:
            earlier = signal.getsignal(number)
            if number in self.forwarded and not callable(earlier):
                continue
            self._earlier[number] = earlier
            signal.signal(number, self._receive)

    def restore(self) -> None:
        """Reinstall the earlier handlers."""
        for number, earlier in self._earlier.items():
            signal.signal(number, earlier)
        self._earlier = {}

    def forward(self, number: signal.Signals) -> None:
        """Call the earlier handler of ``number``, which requeues the job, and return even if it raises.

        Exceptions are printed only, since submitit would take one for the result of the job. Whether the job was requeued
        is known to SLURM alone: a busy controller may requeue it and still report an error.
        """
        try:
            self._earlier[number](number, None)
        except SystemExit:
            pass
        except Exception as error:
            print(f"the {number.name} handler raised {type(error).__name__}: {error}", file=sys.stderr)

    def ignore_during_exit(self) -> None:
        """Ignore SIGTERM and SIGCHLD from here on, so that neither raises while the processes synchronise to exit.

        ``restore`` leaves SIGTERM ignored: the earlier handler would end the process before the others.
        """
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._earlier[signal.SIGTERM] = signal.SIG_IGN

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in self.received:
            end(number)
        self.received.add(signal.Signals(number))
