"""Small vdm-train jobs on SLURM: submit, wait, compare."""

import subprocess
import sys
import time
from pathlib import Path

import torch

from vdm.runs.tables import read_rows

STEPS = 60
SMALL = (
    "trainer.accelerator=cpu",
    f"trainer.max_steps={STEPS}",
    "trainer.val_check_interval=25",
    "data.batch_size=64",
    "model.denoiser.network.channels=8",
    "model.denoiser.network.blocks=1",
    "model.sampling.steps=2",
    "callbacks.bound_terms.every=1",
    "validation.repeats=2",
    "test.repeats=2",
)
SLURM = ("hydra/launcher=slurm", "hydra.launcher.gpus_per_node=null", "hydra.launcher.cpus_per_task=1")
TWO = ("trainer.devices=2", "trainer.strategy=ddp")
TWO_NODES = ("trainer.num_nodes=2", "trainer.strategy=ddp")
WORKERS = ("data.workers=2",)
"""Loader workers: SLURM signals every process of a job, these included."""


def pauses(seconds):
    """Overrides that slow down the first start of a job, and make it print its stacks if it hangs."""
    return ("+callbacks.pauses._target_=pauses.Pauses", f"+callbacks.pauses.seconds={seconds}")


def start(environment, *overrides, options=()):
    """Start vdm-train in the background."""
    program = Path(sys.executable).with_name("vdm-train")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([program, *options, *SMALL, *overrides], env=environment, **pipes)


def submit(cluster, folder, *overrides):
    """Start the launcher of a multirun in ``folder``."""
    return start(cluster.environment, *SLURM, f"hydra.sweep.dir={folder}", *overrides, options=["-m"])


def logs_of(folder):
    """Return the logs of all jobs below ``folder``."""
    return "\n".join(path.read_text() for path in sorted(folder.rglob("*_log.*")))


def finish(cluster, process, folder, status=0):
    """Wait for the launcher to exit with ``status``, and return the jobs' logs."""
    try:
        out, _ = process.communicate(timeout=900)
    except subprocess.TimeoutExpired:
        process.kill()
        out = f"the launcher did not return\n{process.communicate()[0]}"
    cluster.wait_until_idle()
    logs = logs_of(folder)
    assert process.returncode == status, f"{out}\n{logs}"
    return logs


def wait_for_step(cluster, process, run, step=5, seconds=300):
    """Wait until ``run`` has logged ``step``; else fail with SLURM's state and the job's log."""
    limit = time.monotonic() + seconds
    while not any(int(row["step"]) >= step for row in read_rows(run / "metrics.csv")[1]):
        if time.monotonic() > limit:
            raise AssertionError(f"no step was logged\n{cluster.state()}\n{logs_of(run.parent)[-4000:]}")
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def assert_same_run(one, other):
    """Compare weights and logs bit for bit. The runs are too short to log throughput."""
    ends = [torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (one, other)]
    assert [end["global_step"] for end in ends] == [STEPS, STEPS]
    assert ends[0]["state_dict"].keys() == ends[1]["state_dict"].keys()
    assert all(torch.equal(ends[0]["state_dict"][name], value) for name, value in ends[1]["state_dict"].items())
    for name in ("metrics.csv", "profile.csv", "schedule.csv"):
        assert (one / name).read_text() == (other / name).read_text()
