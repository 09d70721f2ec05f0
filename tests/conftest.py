"""One thread a process, before anything imports torch: the same sums everywhere, and a process may fork."""

import os
import signal

import pytest

os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def default_signals():
    """Begin every test with the system's handlers, whatever an earlier one left."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
