"""``vdm-train``: train a model, evaluate it on the whole test set, and write a run folder."""

import os
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig
from torch import distributed

from vdm.cli import command, entry
from vdm.cli.job import job, require_folder
from vdm.cli.logged import keep_profile
from vdm.cli.origin import origin, origin_lines
from vdm.cli.preflight import Plan, check_callbacks, check_plan, check_resources, check_trainer_arguments
from vdm.cli.train_results import write_results
from vdm.config.composed import OWN_CONFIG, instantiate_own, to_plain
from vdm.config.instantiate import check_calls
from vdm.errors import InvalidInput
from vdm.estimate import Estimate
from vdm.evaluation.ranks import is_rank_zero
from vdm.laws import laws_fact, laws_setting
from vdm.reports import console
from vdm.runs.checkpoints import read_checkpoint
from vdm.runs.folder import RunFolder, RunIdentity
from vdm.runs.provenance import provenance
from vdm.runs.tables import truncate_after
from vdm.training.build import build
from vdm.training.callbacks.run_folder import CheckFolder
from vdm.training.checkpoint_io import AtomicCheckpointIO, CheckpointMetadata
from vdm.training.failure import is_consequence, note_failure
from vdm.training.length import announced, why_short
from vdm.training.loggers.base import RunLogger
from vdm.training.signals import keep_lightning_out
from vdm.training.slurm import cluster_environments, forget_earlier_result, requeued

STAGES = {"test": "test", "val": "validation"}
LONGEST_NAME = 128  # characters of a run's name that W&B shows


def train(config: DictConfig) -> float:
    """Train one run and return the validation bound in bits/dim of its best checkpoint, for sweepers.

    With ``resume``, or in a job that SLURM starts again, the run resumes from the folder's last checkpoint, if there is
    one. A finished run returns its number again.
    """
    begun = time.time()
    forget_earlier_result()
    require_folder(config)
    with laws_setting(config.get("laws")):
        return _train(config, begun)


def _train(config: DictConfig, begun: float) -> float:
    folder, resume = RunFolder(config.output_dir), config.resume or requeued()
    if is_rank_zero():
        folder.check(config, resume)
    finished = folder.result()
    if finished is not None and folder.extends(config) is None:
        return _finished_before(folder, finished)
    with folder.locked() if is_rank_zero() else nullcontext():
        return _run(config, folder, begun)


def _run(config: DictConfig, folder: RunFolder, begun: float) -> float:
    processes = int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1)
    try:
        plan = _prepare(config, folder)
        processes = plan.trainer.world_size
        _start(plan)
        effort, chosen = _fit_and_test(plan)
        if plan.trainer.is_global_zero:
            write_results(plan, chosen, effort)
        return plan.terms.results["val"]["bits_per_dim"].value
    except MisconfigurationException as error:
        raise InvalidInput(f"trainer: {' '.join(str(error).split())}") from error
    except Exception as error:
        cause = note_failure(folder, error, begun, processes)
        if cause is not None and is_consequence(error):
            command.stop(f"another process ended this run: {cause}", status=1)
        raise
    finally:
        leave_nothing_open()


def _prepare(config: DictConfig, folder: RunFolder) -> Plan:
    """Build all parts of the run; all refusals happen here, before training."""
    check_trainer_arguments(to_plain(config.trainer))
    check_calls(to_plain(config), OWN_CONFIG)
    on_processors = to_plain(config.trainer.get("devices")) if config.trainer.get("accelerator") == "cpu" else 1
    check_resources(to_plain(config.data), on_processors)
    data, task = build(config)
    facts = provenance(data, config.seed) | laws_fact()
    callbacks: dict[str, Any] = instantiate_own(config.callbacks, "callbacks")
    check_callbacks(callbacks, task)
    metadata = CheckpointMetadata({}, facts)
    own = {
        "callbacks": [CheckFolder(folder), *callbacks.values(), metadata],
        "plugins": [AtomicCheckpointIO(metadata.content), *cluster_environments()],
    }
    trainer: pl.Trainer = instantiate_own({**to_plain(config.trainer), **own, "logger": False}, "trainer")
    keep_lightning_out(trainer)
    keep_profile(trainer, folder.root)
    start = folder.last if folder.last.exists() else None
    facts |= origin(config, folder, task, start)
    plan = Plan(config, folder, data, task, callbacks, metadata, trainer, start, facts)
    check_plan(plan)
    return plan


def _start(plan: Plan) -> None:
    """Write the run's config, start its loggers, and print what is going to run."""
    plan.metadata.content["config"] = tree = to_plain(plan.config)
    plan.trainer.loggers = loggers = list(instantiate_own(tree.get("logger") or {}, "logger").values())
    if plan.trainer.is_global_zero:
        if plan.facts.get("extended"):
            plan.folder.keep_earlier_result(plan.facts["extended"][-1])
        identity = _identity(plan)
        truncate_after(plan.folder.curves, identity.last_valid_step)
        for logger in loggers:
            if isinstance(logger, RunLogger):
                logger.start(identity)
    for logger in loggers:
        logger.log_hyperparams(tree | {"choices": job().choices, "provenance": plan.facts})
    if plan.trainer.is_global_zero:
        console.show(*_announcement(plan))


def _identity(plan: Plan) -> RunIdentity:
    """Write config.yaml, overrides.yaml and run_id; the group is the name of the sweep's folder."""
    known, folder, started_before = job(), plan.folder, plan.folder.id.exists()
    resumed_at = read_checkpoint(plan.start).step if plan.start is not None else 0 if started_before else None
    run_id = plan.metadata.content["run_id"] = folder.start(plan.config, known.overrides)
    return RunIdentity(run_id, run_name(known.dirname, folder.root), known.sweep, resumed_at)


def run_name(overrides: str, root: Path) -> str:
    """Return the run's overrides, or its folder's name where there are none or too many to tell runs apart."""
    return overrides if 0 < len(overrides) <= LONGEST_NAME else root.name[:LONGEST_NAME]


def _announcement(plan: Plan) -> list[str]:
    data, processes = plan.data, plan.trainer.world_size
    sizes = ", ".join(f"{len(split.x)} {name}" for name, split in data.splits().items())
    share = f", {data.batch_size // processes} in each of {processes} processes" if processes > 1 else ""
    return [
        f"{data.name} ({sizes}); {plan.weights:,} weights; {announced(plan.trainer)}; "
        f"{console.short_path(plan.folder.root)}",
        f"{data.batch_size} examples a step{share}; {torch.get_num_threads()} threads (OMP_NUM_THREADS sets them)",
        *([] if plan.start is None else [f"resuming from {console.short_path(plan.start)}"]),
        *origin_lines(plan.facts, plan.start is None),
    ]


def _fit_and_test(plan: Plan) -> tuple[dict[str, Any], Path]:
    """Train, validate if the last step was not, and test the best checkpoint; return the effort and that checkpoint."""
    data, task, callbacks, trainer = plan.data, plan.task, plan.callbacks, plan.trainer
    trainer.fit(task, datamodule=data, ckpt_path=plan.start)
    spent = callbacks.get("cpu_time")  # read now: the test loads the callbacks' state from its checkpoint
    used = {} if spent is None else {f"training_{spent.unit}": round(spent.used, 2)}
    short = why_short(trainer)
    effort = {"parameters": plan.weights, "steps": trainer.global_step, **used, **({"ended": short} if short else {})}
    best = getattr(callbacks.get("checkpoint"), "best_model_path", "")  # a file of that name may be another run's
    chosen = Path(best) if best else plan.folder.last
    if not best:
        if plan.terms.validated != trainer.global_step:
            trainer.validate(task, datamodule=data, verbose=False)
        trainer.save_checkpoint(chosen)
    trainer.test(task, datamodule=data, ckpt_path=str(chosen), verbose=False)
    return effort, chosen


def _finished_before(folder: RunFolder, finished: Mapping[str, Estimate]) -> float:
    """Print the result of a run that has finished already, and return its number."""
    results = "; ".join(console.bound_sentence(STAGES[stage], found) for stage, found in finished.items())
    console.show(f"{console.short_path(folder.root)} is finished: {results}")
    return finished.get("val", finished["test"]).value


def leave_nothing_open() -> None:
    """End a W&B run and a process group, which the next job of a sweep would find open otherwise."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code=0 if sys.exc_info()[0] is None else 1)
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


main = entry.train
