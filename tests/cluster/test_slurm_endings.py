"""On a real SLURM: every way in which a job can be stopped. It ends as if it had not been, bit for bit."""

import os

import pytest
from jobs import TWO, TWO_NODES, WORKERS, conclude, pauses, same, start, submit, wait_for_step

from vdm.runs.sweeps import read_sweep

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.xdist_group("cluster")]

CASES = [("alone", ()), ("alone", WORKERS), ("over_two_nodes", TWO)]
"""The fourth, two processes and their workers, is in ``test_slurm.py``."""


@pytest.fixture
def whole(request):
    """A run that nothing stopped, in as many processes."""
    made = request.getfixturevalue(request.param)
    return made if request.param == "alone" else made[0] / "0"


@pytest.mark.parametrize(("whole", "overrides"), CASES, indirect=["whole"])
def test_a_signal(cluster, whole, overrides, tmp_path):
    folder = tmp_path / "sweep"
    process = submit(cluster, folder, *overrides, *pauses(0.2))
    wait_for_step(cluster, process, folder / "0")
    cluster.call("scancel", "--signal=USR2", cluster.running())
    logs = conclude(cluster, process, folder)
    assert "SIGUSR2 at step" in logs
    assert "resuming from" in logs
    same(whole, folder / "0")


@pytest.mark.parametrize("whole", ["over_two_nodes"], indirect=True)
def test_the_time_limit(cluster, whole, tmp_path):
    """The first start needs five minutes and has four; SLURM sends its signal between 20 and 80 seconds ahead."""
    folder = tmp_path / "sweep"
    limit = ("hydra.launcher.timeout_min=4", "hydra.launcher.signal_delay_s=20")
    logs = conclude(cluster, submit(cluster, folder, *TWO, *WORKERS, *limit, *pauses(5)), folder)
    assert "this job is timed-out" in logs
    assert "SIGUSR2 at step" in logs
    same(whole, folder / "0")


@pytest.mark.parametrize("whole", ["over_two_nodes"], indirect=True)
def test_a_pre_emption(cluster, whole, tmp_path):
    """A job of a higher partition that needs both nodes."""
    folder = tmp_path / "sweep"
    process = submit(cluster, folder, *TWO, *WORKERS, "hydra.launcher.partition=low", *pauses(0.5))
    wait_for_step(cluster, process, folder / "0")
    job = cluster.running()
    higher = ("--partition=high", "--exclusive", "--nodes=2", "--output=/dev/null", "--wrap=sleep 3")
    cluster.call("sbatch", "--wait", *higher)
    logs = conclude(cluster, process, folder)
    assert "Restarts=1" in cluster.call("scontrol", "show", "job", job)
    assert "SIGUSR2 at step" in logs
    same(whole, folder / "0")


@pytest.mark.parametrize("whole", ["over_two_nodes"], indirect=True)
def test_scontrol_requeue(cluster, whole, tmp_path):
    """SIGTERM, and soon the end, at another moment on each node."""
    folder = tmp_path / "sweep"
    process = submit(cluster, folder, *TWO_NODES, *WORKERS, *pauses(0.5))
    wait_for_step(cluster, process, folder / "0")
    cluster.call("scontrol", "requeue", cluster.running())
    logs = conclude(cluster, process, folder)
    assert "SIGTERM at step" in logs
    assert "resuming from" in logs
    same(whole, folder / "0")


def test_scancel_leaves_a_checkpoint_from_which_a_laptop_goes_on(cluster, alone, tmp_path):
    folder = tmp_path / "sweep"
    process = submit(cluster, folder, *WORKERS, *pauses(0.5))
    wait_for_step(cluster, process, folder / "0")
    cluster.call("scancel", cluster.running())
    assert "SIGTERM at step" in conclude(cluster, process, folder, status=1)
    assert not (folder / "0/metrics.json").exists()
    again = start(os.environ, *WORKERS, f"hydra.run.dir={folder / '0'}", "resume=true")
    out, _ = again.communicate(timeout=240)
    assert again.returncode == 0, out
    assert "resuming from" in out
    same(alone, folder / "0")


def test_a_failed_job_of_an_array_costs_the_others_nothing_and_a_restart_repeats_nothing(cluster, tmp_path):
    folder = tmp_path / "sweep"
    sweep = ("trainer.max_steps=4", "optimizer.lr=1e30,1e-3", "trainer.gradient_clip_val=null")
    conclude(cluster, submit(cluster, folder, *sweep), folder, status=2)
    assert [run.state for run in read_sweep(folder)] == ["failed", "finished"]
    weights = (folder / "1/checkpoints/last.ckpt").stat()
    logs = conclude(cluster, submit(cluster, folder, *sweep, "resume=true"), folder, status=2)
    assert logs.count("is finished") == 1
    assert (folder / "1/checkpoints/last.ckpt").stat() == weights
