"""Worker processes: that they begin at all, and how they take signals.

SLURM sends signals to every process of a job, a terminal to all of its group.
"""

import os
import select
import signal
from multiprocessing.context import ForkContext, ForkProcess
from multiprocessing.popen_fork import Popen
from threading import Thread
from typing import Any

BEGINS_WITHIN_S = 10.0
"""How long a new worker is waited for before it is taken for stuck; it has done nothing by then."""


class _CheckedProcess(ForkProcess):
    """A fork that is made again if it does not begin.

    CPython (seen in 3.11.7) takes a lock of the interpreter in a new child before it renews it. If another thread held that
    lock in the moment of the fork, as a thread of a process group may, the child waits for ever, and so would the training.
    """

    _pipe: tuple[int, int]

    @staticmethod
    def _Popen(process_obj: Any) -> Popen:  # noqa: N802
        while True:
            heard, told = process_obj._pipe = os.pipe()
            process = Popen(process_obj)
            os.close(told)
            word = select.poll()
            word.register(heard, select.POLLIN)
            begun = word.poll(1000 * BEGINS_WITHIN_S)  # or ended, which torch reports
            os.close(heard)
            if begun:
                return process
            process.kill()
            process.wait()

    def _bootstrap(self, *arguments: Any, **settings: Any) -> int:
        heard, told = self._pipe
        os.close(heard)
        os.write(told, b"1")
        os.close(told)
        return super()._bootstrap(*arguments, **settings)  # type: ignore[misc]


class CheckedFork(ForkContext):
    """The context of ``fork`` for a DataLoader, whose workers are known to have begun."""

    Process = _CheckedProcess


def obey_the_parent_only(worker: int) -> None:
    """In a worker, before its first batch: the training process alone decides what a signal means.

    SIGINT and SIGUSR2 are ignored, whatever handlers the parent had when it forked. SIGTERM is how a parent ends its workers
    and how SLURM announces an end: it is obeyed where the parent sent it.
    """
    for number in (signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
