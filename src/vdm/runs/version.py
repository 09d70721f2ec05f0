"""The version of the package, with the commit where it runs from a git checkout."""

import subprocess
from pathlib import Path

import vdm


def code_version() -> str:
    """Return the version of the package, with the commit if it runs from a git checkout."""
    folder = Path(vdm.__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=folder, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return vdm.__version__
    return f"{vdm.__version__}+{described.stdout.strip()}"
