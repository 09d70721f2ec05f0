"""Everything that ``vdm-train`` refuses before training starts, in the order in which it is checked.

1. ``command.run``: the command line, and names that the config does not have.
2. ``RunFolder.check``: the folder, as to earlier runs in it.
3. ``check_calls``: every ``_target_`` and its arguments.
4. ``training.build.build``: values out of range, data that do not fit the model, the optimiser.
5. ``check_callbacks``: callbacks without which there is no result, or that are none.
6. ``check_plan``: parts that are valid alone and do not make a run together, and own parts that break their law.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from omegaconf import DictConfig

from vdm.cli.job import job
from vdm.data import DataModule
from vdm.data.batches import check_batch_size
from vdm.errors import InvalidInput, did_you_mean
from vdm.evaluation.bound import NO_AUTOCAST
from vdm.laws import check_model
from vdm.reports import console
from vdm.runs.bounds import read_text
from vdm.runs.checkpoints import check_own, read_checkpoint
from vdm.runs.folder import RunFolder
from vdm.runs.load import check_state
from vdm.runs.provenance import changed_splits
from vdm.runs.resuming import check_same_settings
from vdm.training.callbacks.bound_terms import BoundTerms
from vdm.training.callbacks.checkpoint import BestCheckpoint
from vdm.training.callbacks.score_samples import ScoreSamples
from vdm.training.checkpoint_io import CheckpointMetadata
from vdm.training.task import VariationalTask, check_trainer_settings

SET_HERE = {
    "callbacks": "callbacks are added by name, +callbacks.mine._target_=…",
    "logger": "loggers are added by name, logger=tensorboard or +logger.mine._target_=…",
    "plugins": "vdm-train gives it its own, for files and clusters: leave it out",
    "barebones": "it would leave out the callbacks that measure the bound: leave it out",
    "enable_checkpointing": "checkpoints are callbacks: leave one out with ~callbacks.checkpoint",
    "enable_progress_bar": "the bar is a callback: leave it out with ~callbacks.progress",
}
"""Arguments of the Trainer that vdm-train sets itself, and what to do instead."""

AS_SET = {"callbacks": (None, []), "logger": (None, False), "plugins": (None, []), "enable_checkpointing": (None, True)}
"""Values of those that change nothing; for the others null and false."""


class Plan(NamedTuple):
    """The parts of a run, none of which has done any work yet.

    metadata: writes into every checkpoint what the run is. start: the checkpoint to resume from, or None. facts: the
    provenance.
    """

    config: DictConfig
    folder: RunFolder
    data: DataModule
    task: VariationalTask
    callbacks: dict[str, Any]
    metadata: CheckpointMetadata
    trainer: pl.Trainer
    start: Path | None
    facts: dict[str, Any]

    @property
    def terms(self) -> BoundTerms:
        """The callback that measures the bound."""
        terms: BoundTerms = self.callbacks["bound_terms"]
        return terms

    @property
    def scores(self) -> ScoreSamples | None:
        """The callback that scores samples, if there is one of that kind."""
        scores = self.callbacks.get("score_samples")
        return scores if isinstance(scores, ScoreSamples) else None

    @property
    def weights(self) -> int:
        """Number of trained weights."""
        return sum(p.numel() for p in self.task.model.parameters())


def check_plan(plan: Plan) -> None:
    """Raise InvalidInput for a run whose parts do not go together."""
    check_batch_size(plan.data.batch_size, len(plan.data.splits()["train"].x))
    for name, weights in plan.task.model.named_parameters():
        if not weights.numel():
            raise InvalidInput(f"model.{name} has shape {tuple(weights.shape)}, no weight: a size in its settings is 0")
    _check_processes(plan.trainer)
    check_precision(plan)
    _check_whole_splits(plan.trainer)
    check_trainer_settings(plan.trainer)
    share, batches = plan.trainer.limit_train_batches, len(plan.data.splits()["train"].x) // plan.data.batch_size
    if isinstance(share, float) and int(share * batches) < 1:
        raise InvalidInput(f"trainer.limit_train_batches={share} of {batches} batches trains nothing: leave it out")
    if plan.scores is not None:
        plan.scores.scores.check(plan.task.evaluated, plan.data)
    check_model(plan.task.model, plan.data.splits()["train"].x)
    if plan.start is not None:
        _check_start(plan, plan.start)


def check_resources(data: Mapping[str, Any], processes: object = 1) -> None:
    """Raise InvalidInput for far more processes than this machine has processors, and for a device that it has not.

    Args:
        data: settings of the data; ``workers`` and ``device`` are looked at.
        processes: how many the command starts on processors.
    """
    most, workers = 8 * (os.cpu_count() or 1), data.get("workers")
    for name, number in (("data.workers", workers), ("processes (devices)", processes)):
        if isinstance(number, int) and number > most:
            raise InvalidInput(
                f"{name}: {number} is more than 8 for each of the {most // 8} processors here: at most {most}"
            )
    given = data.get("device")
    if given is not None:
        try:
            device = torch.device(str(given))
        except RuntimeError:
            return  # the data module says which there are
        found = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(device.type, 1)
        if (device.index or 0) >= found and device.type != "cpu":
            raise InvalidInput(f"data.device={given} is not on this machine: use null to choose by memory, or cpu")


def check_trainer_arguments(settings: Mapping[str, Any]) -> None:
    """Raise InvalidInput for an argument of the Trainer that vdm-train would replace, and so ignore."""
    for name, instead in SET_HERE.items():
        value = settings.get(name)
        if all(value is not same and value != same for same in AS_SET.get(name, (None, False))):
            raise InvalidInput(f"trainer.{name}={value} cannot be set: {instead}")


def check_callbacks(callbacks: Mapping[str, Any], task: VariationalTask) -> None:
    """Raise InvalidInput for an unmeasured bound, anything but callbacks, and a best checkpoint by an unmeasured metric."""
    if not isinstance(callbacks.get("bound_terms"), BoundTerms):
        raise InvalidInput("callbacks.bound_terms measures the bound, which is a run's result: it cannot be left out")
    for name, callback in callbacks.items():
        if not isinstance(callback, pl.Callback):
            raise InvalidInput(f"callbacks.{name} is not a callback: leave it out with ~callbacks.{name}")
    best, scores = callbacks.get("checkpoint"), callbacks.get("score_samples")
    measured = [f"val/{name}" for name in task.evaluated.term_names]
    if isinstance(scores, ScoreSamples) and scores.fid is not None and scores.every == 1:
        measured.append(f"val/{scores.fid.name}")
    for name, callback in callbacks.items():
        monitor = getattr(callback, "monitor", None)
        if callback is not best and monitor is not None and monitor not in measured:
            near = did_you_mean(str(monitor), measured, f"choose one of {', '.join(measured)}")
            raise InvalidInput(f"callbacks.{name}.monitor={monitor} is not measured by validations{near}")
    if best is None:
        return
    if not isinstance(best, BestCheckpoint):
        raise InvalidInput(
            "callbacks.checkpoint must be a vdm.training.callbacks.checkpoint.BestCheckpoint, whose checkpoint the run "
            "is tested with: give another checkpoint callback another name"
        )
    best.check(measured)


def _check_processes(trainer: pl.Trainer) -> None:
    """Refuse a sweep whose jobs start processes: each of those would run the whole sweep again."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    started_here = trainer.world_size > 1 and not getattr(environment, "creates_processes_externally", False)
    if started_here and job().sweep is not None:
        raise InvalidInput(
            f"a sweep cannot start {trainer.world_size} processes a job by itself: use hydra/launcher=slurm, "
            "trainer.devices=1, or one command a job"
        )


def check_precision(plan: Plan) -> None:
    """Refuse float16, whose first overflow would end the run, and an evaluation under autocast."""
    precision = plan.trainer.precision
    if precision.startswith("16"):
        raise InvalidInput(
            f"trainer.precision={precision}: float16's gradients overflow by design, which here ends a run; choose "
            "trainer=fast (bfloat16 where it is safe)"
        )
    if precision not in ("32-true", "64-true") and not (plan.task.validation.autocast and plan.task.test.autocast):
        raise InvalidInput(NO_AUTOCAST)


def _check_whole_splits(trainer: pl.Trainer) -> None:
    """Refuse evaluations of part of a split, which would be reported under the name of the whole."""
    shares = {name: getattr(trainer, name) for name in ("limit_val_batches", "limit_test_batches")}
    limits = [name for name, share in shares.items() if not (isinstance(share, float) and share == 1)]  # 1 is one batch
    for name in limits + [name for name in ("overfit_batches", "fast_dev_run") if getattr(trainer, name)]:
        raise InvalidInput(
            f"trainer.{name} would evaluate part of a split and report it as the whole: leave it out, and set "
            "trainer.max_steps, validation.repeats and test.repeats for a short run (trainer=debug, or for fewer examples "
            "trainer=limited or overfit)"
        )


def _check_start(plan: Plan, start: Path) -> None:
    """Refuse checkpoints of another run, other settings or another model, and to resume without training state."""
    own = read_text(plan.folder.id).strip() if plan.folder.id.exists() else None
    for path in sorted(plan.folder.checkpoints.glob("*.ckpt")):
        checkpoint = read_checkpoint(path, for_resuming=path == start)
        check_own(path, checkpoint.run_id, own)
        check_same_settings(path, checkpoint.config, plan.config)
        check_state(checkpoint, plan.task)
    checkpoint = read_checkpoint(start)
    changed = changed_splits(plan.facts["data"], checkpoint.provenance.get("data"))
    if changed:
        raise InvalidInput(
            f"{console.short_path(start)} was trained on other data ({', '.join(changed)} differ): put those back, or "
            "start in another folder, hydra.run.dir=…"
        )
