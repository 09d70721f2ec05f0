"""On a real SLURM: however a job is stopped, the resumed one ends bit for bit like the uninterrupted one."""

import os

import pytest
from jobs import TWO, TWO_NODES, WORKERS, assert_same_run, finish, pauses, start, submit, wait_for_step

from vdm.runs.sweeps import read_sweep

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.xdist_group("cluster")]

CASES = [("alone", ()), ("alone", WORKERS), ("over_two_nodes", TWO)]
"""Reference run and overrides. Two processes with loader workers are tested in ``test_slurm.py``."""


@pytest.fixture
def whole(request):
    """Folder of an uninterrupted run in as many processes."""
    value = request.getfixturevalue(request.param)
    return value if request.param == "alone" else value[0] / "0"


@pytest.mark.parametrize(("whole", "overrides"), CASES, indirect=["whole"])
def test_usr2_requeues_in_every_process_layout(cluster, whole, overrides, tmp_path):
    folder = tmp_path / "sweep"
    process = submit(cluster, folder, *overrides, *pauses(0.2))
    wait_for_step(cluster, process, folder / "0")
    cluster.call("scancel", "--signal=USR2", cluster.running())
    logs = finish(cluster, process, folder)
    assert "SIGUSR2 at step" in logs
    assert "resuming from" in logs
    assert_same_run(whole, folder / "0")


@pytest.mark.parametrize("whole", ["over_two_nodes"], indirect=True)
def test_time_limit_requeues(cluster, whole, tmp_path):
    """The first start needs five minutes and has four; SLURM signals 20 to 80 seconds before the limit."""
    folder = tmp_path / "sweep"
    limit = ("hydra.launcher.timeout_min=4", "hydra.launcher.signal_delay_s=20")
    logs = finish(cluster, submit(cluster, folder, *TWO, *WORKERS, *limit, *pauses(5)), folder)
    assert "this job is timed-out" in logs
    assert "SIGUSR2 at step" in logs
    assert_same_run(whole, folder / "0")


@pytest.mark.parametrize("whole", ["over_two_nodes"], indirect=True)
def test_preemption_requeues(cluster, whole, tmp_path):
    """By a job in a partition of higher priority that needs both nodes."""
    folder = tmp_path / "sweep"
    process = submit(cluster, folder, *TWO, *WORKERS, "hydra.launcher.partition=low", *pauses(0.5))
    wait_for_step(cluster, process, folder / "0")
    job = cluster.running()
    higher = ("--partition=high", "--exclusive", "--nodes=2", "--output=/dev/null", "--wrap=sleep 3")
    cluster.call("sbatch", "--wait", *higher)
    logs = finish(cluster, process, folder)
    assert "Restarts=1" in cluster.call("scontrol", "show", "job", job)
    assert "SIGUSR2 at step" in logs
    assert_same_run(whole, folder / "0")


@pytest.mark.parametrize("whole", ["over_two_nodes"], indirect=True)
def test_scontrol_requeue_resumes(cluster, whole, tmp_path):
    """SLURM sends SIGTERM and then ends the job, at different times on the two nodes."""
    folder = tmp_path / "sweep"
    process = submit(cluster, folder, *TWO_NODES, *WORKERS, *pauses(0.5))
    wait_for_step(cluster, process, folder / "0")
    cluster.call("scontrol", "requeue", cluster.running())
    logs = finish(cluster, process, folder)
    assert "SIGTERM at step" in logs
    assert "resuming from" in logs
    assert_same_run(whole, folder / "0")


def test_scancel_leaves_a_checkpoint_to_resume_without_slurm(cluster, alone, tmp_path):
    folder = tmp_path / "sweep"
    process = submit(cluster, folder, *WORKERS, *pauses(0.5))
    wait_for_step(cluster, process, folder / "0")
    cluster.call("scancel", cluster.running())
    assert "SIGTERM at step" in finish(cluster, process, folder, status=1)
    assert not (folder / "0/metrics.json").exists()
    again = start(os.environ, *WORKERS, f"hydra.run.dir={folder / '0'}", "resume=true")
    out, _ = again.communicate(timeout=240)
    assert again.returncode == 0, out
    assert "resuming from" in out
    assert_same_run(alone, folder / "0")


def test_failed_array_job_leaves_the_others_finished(cluster, tmp_path):
    folder = tmp_path / "sweep"
    sweep = ("trainer.max_steps=4", "optimizer.lr=1e30,1e-3", "trainer.gradient_clip_val=null")
    finish(cluster, submit(cluster, folder, *sweep), folder, status=2)
    assert [run.state for run in read_sweep(folder)] == ["failed", "finished"]
    weights = (folder / "1/checkpoints/last.ckpt").stat()
    logs = finish(cluster, submit(cluster, folder, *sweep, "resume=true"), folder, status=2)
    assert logs.count("is finished") == 1
    assert (folder / "1/checkpoints/last.ckpt").stat() == weights
