"""On a real SLURM: a job array, processes over two nodes, and a job that is told to make room."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from vdm.cli.sweep import read_sweep
from vdm.training.metrics_file import read_rows

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("cluster")]

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


def submit(cluster, folder, *overrides):
    program = Path(sys.executable).with_name("vdm-train")
    return subprocess.Popen(
        [program, "-m", *SLURM, *SMALL, f"hydra.sweep.dir={folder}", *overrides],
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def conclude(cluster, process, folder):
    """Wait for the launcher; SLURM's own state says nothing, since submitit ends every task well."""
    out, _ = process.communicate(timeout=240)
    cluster.wait_until_idle()
    logs = "\n".join(path.read_text()[-3000:] for path in sorted(folder.rglob("*_log.*")))
    assert process.returncode == 0, f"{out}\n{logs}"
    return logs


@pytest.fixture(scope="module")
def over_two_nodes(cluster, tmp_path_factory):
    """(folder, logs) of a job that nothing stopped."""
    folder = tmp_path_factory.mktemp("nodes") / "sweep"
    process = submit(cluster, folder, "trainer.num_nodes=2", "trainer.strategy=ddp")
    return folder, conclude(cluster, process, folder)


def test_a_sweep_is_one_job_array(cluster, tmp_path):
    folder = tmp_path / "sweep"
    conclude(cluster, submit(cluster, folder, "trainer.max_steps=4", "schedule=linear,cosine"), folder)
    runs = read_sweep(folder)
    assert [(run.settings["schedule"], run.state) for run in runs] == [("linear", "finished"), ("cosine", "finished")]
    jobs = {path.name.rsplit("_", 1)[0] for path in (folder / ".submitit").iterdir()}
    assert len({job.split("_")[0] for job in jobs if job[0].isdigit()}) == 1


def test_one_job_over_two_nodes(over_two_nodes):
    folder, logs = over_two_nodes
    assert "64 examples a step, 32 in each of 2 processes" in logs
    assert sorted(path.name for path in folder.iterdir()) == [".submitit", "0", "multirun.yaml"]
    assert json.loads((folder / "0/metrics.json").read_text())["provenance"]["data"]["splits"]["test"]["size"] == 297


def test_a_job_that_is_told_to_go_is_queued_again_and_ends_bit_for_bit(cluster, over_two_nodes, tmp_path):
    """In mid-epoch, two processes; the signal is what SLURM sends at a time limit and at a pre-emption."""
    folder = tmp_path / "sweep"
    process = submit(cluster, folder, "trainer.devices=2", "trainer.strategy=ddp")
    limit = time.monotonic() + 180
    while not any(int(row["step"]) >= 5 for row in read_rows(folder / "0/metrics.csv")[1]):
        assert time.monotonic() < limit, "no step was logged"
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    (job,) = cluster.call("squeue", "--noheader", "--states=running", "--format=%i").split()
    cluster.call("scancel", "--signal=USR2", job)
    logs = conclude(cluster, process, folder)
    assert "SIGUSR2 at step" in logs
    assert "going on from" in logs
    whole, stopped = over_two_nodes[0] / "0", folder / "0"
    ends = [torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (whole, stopped)]
    assert [end["global_step"] for end in ends] == [STEPS, STEPS]
    assert all(torch.equal(ends[0]["state_dict"][name], value) for name, value in ends[1]["state_dict"].items())
    assert (whole / "metrics.csv").read_text() == (stopped / "metrics.csv").read_text()
