"""Signal handling for training: store a signal when it arrives, act on it at the end of a step."""

import signal
import sys
from types import FrameType
from typing import Any


class Signals:
    """Handlers that only store which signals arrived: they may run in the middle of a collective operation.

    Handles SIGTERM and SIGINT, and those of ``forwarded`` that already have a handler; ``forward`` calls that handler later.
    A second SIGINT raises KeyboardInterrupt at once.
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

        ``restore`` leaves SIGTERM ignored: the earlier handler is Lightning's, which waits for the other processes.
        """
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._earlier[signal.SIGTERM] = signal.SIG_IGN

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in self.received:
            raise KeyboardInterrupt
        self.received.add(signal.Signals(number))
