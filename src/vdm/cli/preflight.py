"""What ``vdm-train`` refuses before any work: parts that are each right, and do not make a run together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from vdm.errors import InvalidInput
from vdm.evaluation.bound import NO_AUTOCAST
from vdm.reports import console
from vdm.runs.checkpoints import read_checkpoint
from vdm.runs.folder import check_same_settings
from vdm.runs.provenance import changed_splits
from vdm.terms import term_names
from vdm.training import VariationalTask
from vdm.training.callbacks.bound_terms import BoundTerms
from vdm.training.callbacks.checkpoint import BestCheckpoint
from vdm.training.callbacks.score_samples import ScoreSamples
from vdm.training.task import check_trainer_settings


def check_trainer(trainer: pl.Trainer, task: VariationalTask) -> None:
    """Raises InvalidInput for settings of the Trainer with which a run would fail later, or not be what it is called."""
    check_processes(trainer)
    check_precision(trainer, task)
    check_whole(trainer)
    check_trainer_settings(trainer)


def check_callbacks(callbacks: Mapping[str, Any], task: VariationalTask) -> None:
    """Refuse what is no callback, what a result cannot do without, and a best checkpoint by what no validation measures."""
    if not isinstance(callbacks.get("bound_terms"), BoundTerms):
        raise InvalidInput("callbacks.bound_terms measures the bound, which is a run's result: it cannot be left out")
    for name, callback in callbacks.items():
        if not isinstance(callback, pl.Callback):
            raise InvalidInput(f"callbacks.{name} is no callback: leave it out with ~callbacks.{name}")
    best, scores = callbacks.get("checkpoint"), callbacks.get("score_samples")
    if best is not None:
        if not isinstance(best, BestCheckpoint):
            raise InvalidInput(
                "callbacks.checkpoint must be a vdm.training.callbacks.checkpoint.BestCheckpoint, whose checkpoint the run "
                "is tested with: give another checkpoint callback another name"
            )
        measured = [f"val/{name}" for name in term_names(task.evaluated.matching_entries)]
        if isinstance(scores, ScoreSamples) and scores.fid is not None and scores.every == 1:
            measured.append(f"val/{scores.fid.name}")
        best.check(measured)


def check_processes(trainer: pl.Trainer) -> None:
    """Refuse a sweep whose jobs start processes of their own: those would run the whole sweep again."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    started_here = trainer.world_size > 1 and not getattr(environment, "creates_processes_externally", False)
    if started_here and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise InvalidInput(
            f"a sweep cannot start {trainer.world_size} processes a job by itself: use hydra/launcher=slurm, "
            "trainer.devices=1, or one command a job"
        )


def check_precision(trainer: pl.Trainer, task: VariationalTask) -> None:
    """Refuse at the start what the first evaluation would refuse, or the first overflow of float16 would end."""
    if trainer.precision.startswith("16"):
        raise InvalidInput(
            f"trainer.precision={trainer.precision}: float16's gradients overflow by design, which here ends a run; choose "
            "trainer=fast (bfloat16 where it is safe)"
        )
    if trainer.precision not in ("32-true", "64-true") and not (task.validation.autocast and task.test.autocast):
        raise InvalidInput(NO_AUTOCAST)


def check_whole(trainer: pl.Trainer) -> None:
    """Refuse what would make an evaluation one of a part of a split, under the name of the whole."""
    shares = {name: getattr(trainer, name) for name in ("limit_val_batches", "limit_test_batches")}
    limits = [name for name, share in shares.items() if not (isinstance(share, float) and share == 1)]  # 1 is one batch
    for name in limits + [name for name in ("overfit_batches", "fast_dev_run") if getattr(trainer, name)]:
        raise InvalidInput(
            f"trainer.{name} would evaluate a part of a split and call it the whole: leave it out, and set "
            "trainer.max_steps, validation.repeats and test.repeats for a short run (trainer=debug)"
        )


def check_same_run(path: Path, config: DictConfig, facts: Mapping[str, Any]) -> None:
    """Refuse to go on from a checkpoint of other settings, which config.yaml does not know of, with other data, or from a
    file that does not say where."""
    checkpoint = read_checkpoint(path, go_on=True)
    check_same_settings(path, checkpoint.config, config)
    changed = changed_splits(facts["data"], checkpoint.provenance.get("data"))
    if changed:
        raise InvalidInput(
            f"{console.near(path)} was trained on other data ({', '.join(changed)} differ): put those back, or begin "
            "anew in another folder, hydra.run.dir=…"
        )
