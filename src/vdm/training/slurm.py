"""Running inside SLURM jobs, directly or through submitit."""

import os
from importlib import import_module

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment


def cluster_environments() -> list[SLURMEnvironment]:
    """Return SLURM's environment if in a job, with Lightning's requeueing off, which saves inside the signal handler."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def requeued() -> bool:
    """Return whether SLURM has requeued this job: the run then resumes, whatever the ``resume`` setting."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def forget_earlier_result() -> None:
    """Delete submitit's result file of this process from before a requeue, if there is one.

    SLURM may end the processes of a job one after another (several nodes, or a failed node). The remaining ones then raise,
    and submitit would take that exception for the result of the requeued job.
    """
    if requeued() and "SUBMITIT_FOLDER" in os.environ:
        environment = import_module("submitit").JobEnvironment()
        environment.paths.result_pickle.unlink(missing_ok=True)
