"""On a real SLURM: a job array, a job over two nodes, and a requeued job."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from jobs import TWO, WORKERS, assert_same_run, finish, pauses, submit, wait_for_step

from vdm.runs.sweeps import read_sweep

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("cluster")]


def test_sweep_is_one_job_array(cluster, tmp_path):
    folder = tmp_path / "sweep"
    finish(cluster, submit(cluster, folder, "trainer.max_steps=4", "schedule=linear,cosine"), folder)
    runs = read_sweep(folder)
    assert [(run.settings["schedule"], run.state) for run in runs] == [("linear", "finished"), ("cosine", "finished")]
    report = Path(sys.executable).with_name("vdm-report")
    completed = subprocess.run([report, f"sweep={folder}"], capture_output=True, text=True, check=True)
    assert "2 runs, 2 finished" in completed.stdout
    jobs = {path.name.rsplit("_", 1)[0] for path in (folder / ".submitit").iterdir()}
    assert len({job.split("_")[0] for job in jobs if job[0].isdigit()}) == 1


def test_one_job_over_two_nodes(over_two_nodes):
    folder, logs = over_two_nodes
    assert "64 examples a step, 32 in each of 2 processes" in logs
    assert sorted(path.name for path in folder.iterdir()) == [".submitit", "0", "multirun.yaml"]
    assert json.loads((folder / "0/metrics.json").read_text())["provenance"]["data"]["splits"]["test"]["size"] == 297


def test_usr2_requeues_and_the_job_ends_bit_for_bit(cluster, over_two_nodes, tmp_path):
    """In mid-epoch, with two processes and loader workers; SLURM sends USR2 at a time limit."""
    folder = tmp_path / "sweep"
    process = submit(cluster, folder, *TWO, *WORKERS, *pauses(0.2))
    wait_for_step(cluster, process, folder / "0")
    cluster.call("scancel", "--signal=USR2", cluster.running())
    logs = finish(cluster, process, folder)
    assert "SIGUSR2 at step" in logs
    assert "resuming from" in logs
    assert_same_run(over_two_nodes[0] / "0", folder / "0")
