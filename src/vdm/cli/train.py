"""``vdm-train``: train a model, evaluate it on the whole test set, leave a folder behind."""

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from torch import distributed

from vdm.cli import command
from vdm.cli.build import build
from vdm.cli.command import quiet
from vdm.cli.preflight import check_callbacks, check_same_run, check_trainer
from vdm.config.composed import OWN_CONFIG, instantiate_own, to_plain
from vdm.config.instantiate import check_calls
from vdm.data import DataModule
from vdm.data.batches import check_batch_size
from vdm.evaluation import warnings
from vdm.evaluation.ranks import is_rank_zero
from vdm.evaluation.samples.images import draw_samples
from vdm.plots.figures import bound_curves
from vdm.reports import console
from vdm.runs.checkpoints import read_checkpoint
from vdm.runs.files import file_sha256
from vdm.runs.folder import RunFolder, RunIdentity, as_metrics
from vdm.runs.provenance import provenance
from vdm.runs.tables import read_curves, truncate_after
from vdm.training import VariationalTask
from vdm.training.callbacks.bound_terms import BoundTerms
from vdm.training.callbacks.checkpoint_metadata import CheckpointMetadata
from vdm.training.callbacks.cpu_time import CpuTime
from vdm.training.callbacks.final_images import FinalImages
from vdm.training.callbacks.score_samples import ScoreSamples
from vdm.training.checkpoint_io import AtomicCheckpointIO
from vdm.training.loggers.base import save_image
from vdm.training.slurm import cluster_environments, forget_earlier_result, requeued

STAGES = {"test": "test", "val": "validation"}

LONGEST_NAME = 128
"""What W&B shows of a run's name."""


def train(config: DictConfig) -> float:
    """One run; returns the validation bound in bits/dim of its best checkpoint, for sweepers.

    With ``resume`` (or in a job that SLURM starts again) it goes on from the folder's last checkpoint, if there is one; a
    finished run only gives its number again.
    """
    quiet()
    forget_earlier_result()
    folder, resume = RunFolder(config.output_dir), config.resume or requeued()
    if is_rank_zero():
        folder.check(config, resume)
    finished = folder.result()
    if finished is not None:
        said = "; ".join(console.in_words(STAGES[stage], found) for stage, found in finished.items())
        console.show(f"{console.near(folder.root)} is finished: {said}")
        return finished.get("val", finished["test"]).value
    with folder.held() if is_rank_zero() else nullcontext():
        try:
            return _run(config, folder)
        except Exception as error:
            if is_rank_zero():
                folder.note_failure(error)
            raise
        finally:
            leave_nothing_open()


def _run(config: DictConfig, folder: RunFolder) -> float:
    check_calls(to_plain(config), OWN_CONFIG)
    data, task = build(config)
    check_batch_size(data.batch_size, len(data.splits()["train"].x))
    facts = provenance(data, config.seed)
    callbacks = instantiate_own(config.callbacks, "callbacks")
    check_callbacks(callbacks, task)
    terms: BoundTerms = callbacks["bound_terms"]
    identity = CheckpointMetadata({}, facts)
    settings = {
        **to_plain(config.trainer),
        "callbacks": [*callbacks.values(), identity],
        "logger": False,
        "plugins": [AtomicCheckpointIO(), *cluster_environments()],
    }
    trainer: pl.Trainer = instantiate_own(settings, "trainer")
    check_trainer(trainer, task)
    start = folder.last if folder.last.exists() else None
    if start is not None:
        check_same_run(start, config, facts)
    if trainer.is_global_zero:
        leg = begin(config, folder, start)
        truncate_after(folder.curves, leg.kept)
        config.leg.update(leg._asdict())
    identity.content["config"] = tree = to_plain(config)
    trainer.loggers = loggers = list(instantiate_own(tree.get("logger", {}), "logger").values())
    for logger in loggers:
        logger.log_hyperparams(tree | {"choices": choices(), "provenance": facts})
    weights = sum(p.numel() for p in task.model.parameters())
    sizes = ", ".join(f"{len(split.x)} {name}" for name, split in data.splits().items())
    processes = trainer.world_size
    if trainer.is_global_zero:
        console.show(
            f"{data.name} ({sizes}); {weights:,} weights; {trainer.max_steps} steps; {console.near(folder.root)}",
            f"{data.batch_size} examples a step"
            + (f", {data.batch_size // processes} in each of {processes} processes" if processes > 1 else ""),
            *([] if start is None else [f"going on from {console.near(start)}"]),
        )

    trainer.fit(task, datamodule=data, ckpt_path=start)
    spent: CpuTime | None = callbacks.get("cpu_time")
    # now, since the test puts callbacks back to where its checkpoint had them
    used = {} if spent is None else {f"training_{spent.unit}": round(spent.used, 2)}
    best = getattr(callbacks.get("checkpoint"), "best_model_path", "")  # of this run: a file of that name may be another's
    chosen = Path(best) if best else folder.last
    if not best:
        if terms.validated != trainer.global_step:
            trainer.validate(task, datamodule=data, verbose=False)
        trainer.save_checkpoint(chosen)
    trainer.test(task, datamodule=data, ckpt_path=str(chosen), verbose=False)

    if trainer.is_global_zero:
        draws = {"weights": "ema", "repeats": task.test.repeats, "draws_seed": task.test.seed}
        effort = {"parameters": weights, "steps": trainer.global_step, **used}
        facts = {**facts, "checkpoint": chosen.name, "step": read_checkpoint(chosen).step, **draws, **effort}
        evaluated: dict[str, Any] = {stage: as_metrics(estimates) for stage, estimates in sorted(terms.results.items())}
        scores: ScoreSamples | None = callbacks.get("score_samples")
        if scores is not None and scores.entry:
            evaluated["samples"] = scores.entry | {"checkpoint_sha256": file_sha256(chosen)}
        said = warnings.warnings(task.evaluated, terms.results["test"], [], data, {**facts, "split": "test"})
        folder.write_metrics(evaluated | {"warnings": said, "provenance": facts})
        leave_pictures(trainer, task, data, folder, config.seed)
        for logger in loggers:
            logger.finalize("success")
        known = warnings.above_entropy(terms.results["test"]["bits_per_dim"], data, "test")
        report(folder, chosen, terms, data.title, said, known)
        if scores is not None and scores.entry:
            console.show(console.samples_listing(scores.entry))
    return terms.results["val"]["bits_per_dim"].value


def leave_pictures(trainer: pl.Trainer, task: VariationalTask, data: DataModule, folder: RunFolder, seed: int) -> None:
    """Samples, the bound over the run, and the callbacks' own pictures of the evaluated model."""
    model = task.evaluated.to(trainer.strategy.root_device)  # the Trainer has left it on the CPU
    save_image(trainer, folder.pictures / "samples.png", "samples", draw_samples(model, data, 64, seed))
    if folder.curves.exists():
        bound_curves(read_curves(folder.curves)).savefig(folder.pictures / "bound.png", dpi=120)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, FinalImages):
            callback.save(trainer, model, data)


def begin(config: DictConfig, folder: RunFolder, start: Path | None) -> RunIdentity:
    """Keep the config in the folder; a job of a sweep belongs to the group that the sweep's folder names."""
    hydra, gone_on = HydraConfig.get(), folder.id.exists()
    group = Path(hydra.sweep.dir).name if hydra.mode == RunMode.MULTIRUN else None
    resumed_at = read_checkpoint(start).step if start is not None else 0 if gone_on else None
    id = folder.begin(config, list(hydra.overrides.task))
    return RunIdentity(id, run_name(hydra.job.override_dirname, folder.root), group, resumed_at)


def run_name(overrides: str, root: Path) -> str:
    """What the run was told; its folder's name if that is nothing, or too long to tell it from others by its beginning."""
    return overrides if 0 < len(overrides) <= LONGEST_NAME else root.name[:LONGEST_NAME]


def choices() -> dict[str, str]:
    """What was chosen of each group of configs: schedule, model, data and so on."""
    return {group: option for group, option in HydraConfig.get().runtime.choices.items() if not group.startswith("hydra/")}


def leave_nothing_open() -> None:
    """End what the next job of a sweep would otherwise find: a W&B run, a process group."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code=0 if sys.exc_info()[0] is None else 1)
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def report(
    folder: RunFolder, checkpoint: Path, terms: BoundTerms, title: str, warnings: list[str], known: str | None
) -> None:
    """The closing table, the pictures, and what to try next."""
    chosen = HydraConfig.get().runtime.choices
    again = " ".join(f"{group}={chosen[group]}" for group in ("experiment", "rung", "data", "model") if chosen[group])
    other = ["schedule=cosine", "schedule=linear,cosine seed=1,2,3"] if "schedule" in chosen else ["seed=1", "seed=1,2,3"]
    console.show(
        console.bound_table(f"{title}, whole test set, averaged weights of {checkpoint.name}", terms.results["test"]),
        *([known] if known else []),
        *console.warned(warnings),
        console.pictures(folder.pictures),
        console.listing(
            "next",
            [
                f"{console.beside('vdm-evaluate')} ckpt={console.near(checkpoint)}",
                f"{console.beside('vdm-sample')} ckpt={console.near(checkpoint)} n=64",
                f"{console.beside('vdm-report')} run={console.near(folder.root)}",
                f"{console.beside('vdm-train')} {again} {other[0]}",
                f"{console.beside('vdm-train')} -m {again} {other[1]}",
            ],
        ),
    )


def main() -> None:
    command.run("train", train, {"resume": bool, "leg": Mapping, "logger": Mapping[str, Mapping]})
