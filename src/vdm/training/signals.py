"""Signals that reach a run: heard at once, obeyed when all of its processes can."""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]


class Signals:
    """The signals that came, and nothing done about them: a handler may run in the middle of a collective operation.

    SIGTERM and SIGINT are listened to, and those of ``handed_on`` that already have a handler, which is called only when
    ``hand_on`` says so. A second SIGINT interrupts at once.
    """

    handed_on = (signal.SIGUSR2,)
    """Where submitit listens for the end of a job's time and for its pre-emption."""

    by_weight = (*handed_on, signal.SIGTERM, signal.SIGINT)
    """Which one is obeyed where several came."""

    def __init__(self) -> None:
        self.received: set[signal.Signals] = set()
        self._earlier: dict[signal.Signals, Any] = {}
        self._owner = 0

    def listen(self) -> None:
        """Take the signals over; only possible in a process's main thread."""
        self.received, self._owner = set(), os.getpid()
        for number in self.by_weight:
            earlier = signal.getsignal(number)
            if number in self.handed_on and not callable(earlier):
                continue
            self._earlier[number] = earlier
            signal.signal(number, self._note)

    def restore(self) -> None:
        """Give the signals back to who had them."""
        for number, earlier in self._earlier.items():
            signal.signal(number, earlier)
        self._earlier = {}

    def hand_on(self, number: signal.Signals) -> None:
        """Call the earlier handler, which queues the job again, and return.

        What it raises is printed only. SLURM alone knows by then whether the job will start again (a busy controller can
        obey and not say so), and an exception would be taken for the result of a job that goes on.
        """
        earlier: Handler = self._earlier[number]
        try:
            earlier(number, None)
        except SystemExit:
            pass
        except Exception as error:
            print(f"{number.name} was answered with {type(error).__name__}: {error}", file=sys.stderr)

    def shut_out(self) -> None:
        """On the way out: the end of a child, or being told again to end, must not raise where processes still meet.

        ``restore`` keeps to it: before it, SIGTERM was Lightning's, whose handler waits for the other processes.
        """
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._earlier[signal.SIGTERM] = signal.SIG_IGN

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a forked worker: its parent decides
            return
        if number == signal.SIGINT and number in self.received:
            raise KeyboardInterrupt
        self.received.add(signal.Signals(number))
