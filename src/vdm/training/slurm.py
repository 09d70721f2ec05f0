"""A run in a job of SLURM, and in one of submitit's."""

import os
from importlib import import_module

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment


def cluster_environments() -> list[SLURMEnvironment]:
    """Return SLURM's environment in a SLURM job, without Lightning's handler, which would save inside the handler."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def requeued() -> bool:
    """Whether SLURM has started this job before: it then goes on, whatever ``resume`` says."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def forget_earlier_result() -> None:
    """Remove the result that submitit has of this process's earlier start, if it has one.

    Where SLURM ends the processes one after another (on several nodes; a node that failed), those that are left find the
    others gone: their exception would be taken for the result of the job that has been queued again.
    """
    if requeued() and "SUBMITIT_FOLDER" in os.environ:
        environment = import_module("submitit").JobEnvironment()
        environment.paths.result_pickle.unlink(missing_ok=True)
