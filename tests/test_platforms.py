"""The package imports where Windows' or macOS' Python lacks what Linux has."""

import subprocess
import sys

BARE = """
import multiprocessing.reduction, os, signal, sys
sys.modules.update(dict.fromkeys(("fcntl", "resource", "pwd", "termios", "grp")))  # None: ImportError
for module, name in [(signal, "SIGUSR2"), (signal, "SIGUSR1"), (signal, "sigtimedwait"), (signal, "pthread_sigmask"),
                     (os, "sched_getaffinity"), (multiprocessing.reduction, "DupFd")]:
    delattr(module, name)
import vdm.cli.entry, vdm.cpus, vdm.data.workers, vdm.data, vdm.training.signals, vdm.runs.folder, vdm.runs.files
assert vdm.cpus.allowed_cpus() >= 1
"""


def test_modules_import_without_what_linux_alone_has():
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
