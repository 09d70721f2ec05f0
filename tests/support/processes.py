"""The commands in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path


def start(command, folder, *overrides):
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder.parent / "pyc")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    program = Path(sys.executable).with_name(command)
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([program, f"hydra.run.dir={folder}", *overrides], env=environment, cwd=folder.parent, **output)


def finish(process):
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return out
