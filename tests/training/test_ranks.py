"""Two processes: the same results as one in one folder, stopped and resumed together."""

import json
import signal
import time

import pytest
import torch

from support.processes import finish, start
from support.training_runs import SMALL, logged
from vdm.runs.examples import read_examples
from vdm.runs.tables import read_rows

STEPS = 40
TWO = ("trainer.devices=2", "trainer.strategy=ddp", f"trainer.max_steps={STEPS}", "callbacks.bound_terms.every=1")
WANDB = ("logger=wandb", "logger.wandb.offline=true")


def status_after_signal(process, folder, number, step):
    """Send a signal once the run has logged ``step``, and return its exit status."""
    while process.poll() is None:
        if any(int(row["step"]) >= step for row in read_rows(folder / "metrics.csv")[1]):
            process.send_signal(number)
            break
        time.sleep(0.05)
    process.communicate(timeout=120)
    return process.returncode


@pytest.mark.slow
def test_two_processes_match_one_and_resume_bit_for_bit(tmp_path):
    """One command starts both processes and one W&B run. 297 test examples do not divide by two."""
    whole, stopped, one = tmp_path / "whole", tmp_path / "stopped", tmp_path / "one"
    out = finish(start("vdm-train", whole, *SMALL, *TWO))
    assert "64 examples a step, 32 in each of 2 processes" in out
    assert out.count("bound.png") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pyc", "whole"]

    finish(start("vdm-evaluate", one, f"ckpt={whole}/checkpoints/best.ckpt", "accelerator=cpu"))
    by_two, by_one = (json.loads((folder / "metrics.json").read_text())["test"] for folder in (whole, one))
    for name, estimate in by_one.items():
        assert by_two[name] == pytest.approx(estimate, rel=1e-5, abs=1e-7)
    two, single = (read_examples(folder / "examples.npz") for folder in (whole, one))
    assert (two.index == single.index).all()
    assert (two.gamma == single.gamma).all()
    assert two.terms["bits_per_dim"] == pytest.approx(single.terms["bits_per_dim"], rel=1e-4)

    again = ("vdm-train", stopped, *SMALL, *TWO, *WANDB)
    process = start(*again, "data.workers=2")  # two loader workers per process, which end with it
    assert status_after_signal(process, stopped, signal.SIGTERM, step=5) == 128 + signal.SIGTERM
    assert len(list((stopped / "wandb").glob("*run-*-*"))) == 1
    finish(start(*again, "resume=true"))
    run_id = (stopped / "run_id").read_text()
    assert [path.name.rpartition("-")[2] for path in (stopped / "wandb").glob("*run-*-*")] == [run_id, run_id]
    ends = [torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for folder in (whole, stopped)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert logged(whole) == logged(stopped)
