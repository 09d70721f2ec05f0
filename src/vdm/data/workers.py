"""Worker processes of a DataLoader: how they start, and which signals they obey.

SLURM sends signals to every process of a job, a terminal to its whole process group. Only the training process may decide
what they mean: its workers, and the server that forks them, keep running until it ends them.
"""

import multiprocessing
import os
import signal
import time
from multiprocessing.context import ForkServerContext
from threading import Thread

IGNORED = tuple(getattr(signal, name) for name in ("SIGINT", "SIGUSR2") if hasattr(signal, name))  # Windows lacks the latter
JOB_SIGNALS = (signal.SIGTERM, *IGNORED)


def worker_context() -> ForkServerContext:
    """Start the server that forks workers, unless it runs, and return its context.

    The server is a fresh process with one thread, so no worker inherits a lock that another thread held at the fork. It
    imports this package once and inherits the blocked ``JOB_SIGNALS``; it ends with this process.
    """
    from multiprocessing import forkserver, resource_tracker  # which Windows lacks

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "vdm.data.batches"])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, JOB_SIGNALS)
    try:
        resource_tracker.ensure_running()  # else started with the server, which unblocks signals
        signal.pthread_sigmask(signal.SIG_BLOCK, JOB_SIGNALS)
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def obey_only_the_parent(worker: int) -> None:
    """Run in a worker before its first batch: end with the training process or at its SIGTERM, ignore other signals."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    Thread(target=_end_with_the_parent, daemon=True).start()  # SIGTERM is blocked since the start of the server


def _end_with_the_parent() -> None:
    """End the worker; torch watches the server instead, which outlives a training process that was killed."""
    parent = multiprocessing.parent_process()
    while parent is not None and parent.is_alive():
        if not hasattr(signal, "sigtimedwait"):  # on macOS; the parent then ends its workers by SIGKILL
            time.sleep(5.0)
            continue
        received = signal.sigtimedwait({signal.SIGTERM}, 5.0)
        if received is not None and received.si_pid == parent.pid:
            break
    os._exit(0)
