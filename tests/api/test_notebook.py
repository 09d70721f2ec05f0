"""The notebook runs from top to bottom in a fresh process, at small size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "notebooks/quickstart.ipynb"
ENVIRONMENT = {**os.environ, "MPLBACKEND": "agg"}


@pytest.mark.slow
def test_quickstart_notebook_runs(tmp_path):
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    code = "\n".join("".join(cell["source"]) for cell in cells)
    assert "steps = 1000 " in code
    check = "\nassert result.bits_per_dim.mc_se > 0 and len(curve.mean(0)) == 64\nassert plt.gcf().axes"
    (tmp_path / "cells.py").write_text(code.replace("steps = 1000 ", "steps = 4 ").replace("plt.show()", "") + check)
    command = [sys.executable, "-W", "ignore", "cells.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
