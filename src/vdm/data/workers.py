"""How a worker process takes signals: SLURM sends them to every process of a job, a terminal to all of its group."""

import os
import signal
from threading import Thread


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
