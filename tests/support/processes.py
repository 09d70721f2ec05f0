"""Commands run in separate processes."""

import os
import subprocess
import sys
from pathlib import Path


def start(command, folder, *overrides):
    """Start a command with ``folder`` as its run folder, and return the process."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder.parent / "pyc")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    program = Path(sys.executable).with_name(command)
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([program, f"hydra.run.dir={folder}", *overrides], env=environment, cwd=folder.parent, **output)


def finish(process):
    """Wait for a process to succeed, and return its output."""
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return out
