"""Benchmarks start; the one for a GPU is refused without one."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from support.training_runs import SMALL

FOLDER = Path(__file__).parents[1] / "benchmarks"


def run(script, *arguments):
    return subprocess.run([sys.executable, FOLDER / script, *arguments], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("script", sorted(FOLDER.glob("**/*.py")), ids=lambda path: path.stem)
def test_benchmark_imports(script, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.syspath_prepend(script.parent)
    assert callable(getattr(importlib.import_module(script.stem), "main", print))


@pytest.mark.parametrize("script", ["loss_variance.py", "sampler_quality.py"])
def test_benchmark_without_a_checkpoint_shows_its_usage(script):
    assert run(script, "--help").stdout.startswith("usage: ")
    missing = run(script)
    assert missing.returncode == 2
    assert "Traceback" not in missing.stderr


@pytest.mark.slow
def test_quality_pairs_two_settings_by_example(tmp_path):
    """Both are trained and tested; a second call reuses the runs of the same code."""
    command = ("quality.py", *SMALL, "--steps=4", "--budgets=60", "--seeds=0", "--split=val", f"--folder={tmp_path}")
    done = run(*command, "--repeats=2", "--against", "schedule=cosine")
    assert done.returncode == 0, done.stderr
    *_, own, other, difference = done.stdout.splitlines()
    assert "schedule=cosine seed=0" in own
    assert "schedule=cosine:" in other
    value, error = map(float, difference.rpartition(": ")[2].split(" ± "))
    assert value != 0
    assert error > 0
    files = {path: path.stat().st_mtime for path in tmp_path.glob("*/metrics.json")}
    assert len(files) == 2
    again = run(*command, "--repeats=2", "--against", "schedule=cosine")
    assert files == {path: path.stat().st_mtime for path in files}
    assert again.stdout == done.stdout or "-dirty): choose another --folder" in again.stderr  # uncommitted code
    for path in files:
        path.write_text(path.read_text().replace('"vdm": "', '"vdm": "older-'))
    refused = run(*command, "--repeats=2", "--against", "schedule=cosine")
    assert refused.returncode == 1
    assert "holds a run of other code or data (older-" in refused.stderr


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_gpu_benchmark_without_a_gpu_is_refused_in_one_line():
    done = run("gpu.py")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        "gpu.py measures a GPU, and torch sees none: run it on a machine that has one"
    ]


@pytest.mark.slow
def test_gpu_benchmark_runs_on_a_cpu():
    done = run("gpu.py", "--device=cpu", "--channels=64", "--blocks=1", "--batch=2", "--steps=2", "--examples=2")
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    difference, error = float(words[words.index("difference") + 1].rstrip(",")), float(words[-1])
    assert abs(difference) < 0.01
    assert error < 0.01
