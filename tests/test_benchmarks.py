"""The benchmark that needs a GPU says so without one, and its own steps work."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_is_refused_in_one_line():
    done = run()
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        "gpu.py measures a GPU, and torch sees none: run it on a machine that has one"
    ]


@pytest.mark.slow
def test_the_script_itself_on_a_cpu():
    done = run("--device=cpu", "--channels=64", "--blocks=1", "--batch=2", "--steps=2", "--examples=2")
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    difference, error = float(words[words.index("difference") + 1].rstrip(",")), float(words[-1])
    assert abs(difference) < 0.01
    assert error < 0.01
