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

from vdm.cli import command, screen
from vdm.cli.build import OWN, as_metrics, build, make, provenance, quiet, resolved
from vdm.cli.refusals import check_callbacks, check_same_run, check_trainer
from vdm.construction import check
from vdm.data import InMemoryData
from vdm.data.batches import check_batch_size
from vdm.evaluation import guards
from vdm.evaluation.features import file_sha256
from vdm.figures import bound_curves
from vdm.training import VariationalTask
from vdm.training.budget import CpuTime
from vdm.training.callbacks import BoundTerms, draw_samples
from vdm.training.checkpoints import AtomicCheckpoints, Identity, read_checkpoint
from vdm.training.media import FinalPictures, keep
from vdm.training.metrics_file import cut_back, read_curves
from vdm.training.processes import first_process
from vdm.training.run_folder import Leg, RunFolder
from vdm.training.score_samples import ScoreSamples
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
    if first_process():
        folder.check(config, resume)
    finished = folder.result()
    if finished is not None:
        said = "; ".join(screen.in_words(STAGES[stage], found) for stage, found in finished.items())
        screen.show(f"{screen.near(folder.root)} is finished: {said}")
        return finished.get("val", finished["test"]).value
    with folder.held() if first_process() else nullcontext():
        try:
            return _run(config, folder)
        except Exception as error:
            if first_process():
                folder.note_failure(error)
            raise
        finally:
            leave_nothing_open()


def _run(config: DictConfig, folder: RunFolder) -> float:
    check(resolved(config), OWN)
    data, task = build(config)
    check_batch_size(data.batch_size, len(data.splits()["train"].x))
    facts = provenance(data, config.seed)
    callbacks = make(config.callbacks, "callbacks")
    check_callbacks(callbacks, task)
    terms: BoundTerms = callbacks["bound_terms"]
    identity = Identity({}, facts)
    settings = {
        **resolved(config.trainer),
        "callbacks": [*callbacks.values(), identity],
        "logger": False,
        "plugins": [AtomicCheckpoints(), *cluster_environments()],
    }
    trainer: pl.Trainer = make(settings, "trainer")
    check_trainer(trainer, task)
    start = folder.last if folder.last.exists() else None
    if start is not None:
        check_same_run(start, config, facts)
    if trainer.is_global_zero:
        leg = begin(config, folder, start)
        cut_back(folder.curves, leg.kept)
        config.leg.update(leg._asdict())
    identity.content["config"] = tree = resolved(config)
    trainer.loggers = loggers = list(make(tree.get("logger", {}), "logger").values())
    for logger in loggers:
        logger.log_hyperparams(tree | {"choices": choices(), "provenance": facts})
    weights = sum(p.numel() for p in task.model.parameters())
    sizes = ", ".join(f"{len(split.x)} {name}" for name, split in data.splits().items())
    processes = trainer.world_size
    if trainer.is_global_zero:
        screen.show(
            f"{data.name} ({sizes}); {weights:,} weights; {trainer.max_steps} steps; {screen.near(folder.root)}",
            f"{data.batch_size} examples a step"
            + (f", {data.batch_size // processes} in each of {processes} processes" if processes > 1 else ""),
            *([] if start is None else [f"going on from {screen.near(start)}"]),
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
        said = guards.warnings(task.evaluated, terms.results["test"], [], data, {**facts, "split": "test"})
        folder.write_metrics(evaluated | {"warnings": said, "provenance": facts})
        leave_pictures(trainer, task, data, folder, config.seed)
        for logger in loggers:
            logger.finalize("success")
        known = guards.above_entropy(terms.results["test"]["bits_per_dim"], data, "test")
        report(folder, chosen, terms, data.title, said, known)
        if scores is not None and scores.entry:
            screen.show(screen.samples_listing(scores.entry))
    return terms.results["val"]["bits_per_dim"].value


def leave_pictures(trainer: pl.Trainer, task: VariationalTask, data: InMemoryData, folder: RunFolder, seed: int) -> None:
    """Samples, the bound over the run, and the callbacks' own pictures of the evaluated model."""
    model = task.evaluated.to(trainer.strategy.root_device)  # the Trainer has left it on the CPU
    keep(trainer, folder.pictures / "samples.png", "samples", draw_samples(model, data, 64, seed))
    if folder.curves.exists():
        bound_curves(read_curves(folder.curves)).savefig(folder.pictures / "bound.png", dpi=120)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, FinalPictures):
            callback.keep(trainer, model, data)


def begin(config: DictConfig, folder: RunFolder, start: Path | None) -> Leg:
    """Keep the config in the folder; a job of a sweep belongs to the group that the sweep's folder names."""
    hydra, gone_on = HydraConfig.get(), folder.id.exists()
    group = Path(hydra.sweep.dir).name if hydra.mode == RunMode.MULTIRUN else None
    resumed_at = read_checkpoint(start).step if start is not None else 0 if gone_on else None
    id = folder.begin(config, list(hydra.overrides.task))
    return Leg(id, run_name(hydra.job.override_dirname, folder.root), group, resumed_at)


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
    again = f"experiment={chosen['experiment']} model={chosen['model']}"
    other = ["schedule=cosine", "schedule=linear,cosine seed=1,2,3"] if "schedule" in chosen else ["seed=1", "seed=1,2,3"]
    screen.show(
        screen.bound_table(f"{title}, whole test set, averaged weights of {checkpoint.name}", terms.results["test"]),
        *([known] if known else []),
        *screen.warned(warnings),
        screen.pictures(folder.pictures),
        screen.listing(
            "next",
            [
                f"{screen.beside('vdm-evaluate')} ckpt={screen.near(checkpoint)}",
                f"{screen.beside('vdm-sample')} ckpt={screen.near(checkpoint)} n=64",
                f"{screen.beside('vdm-report')} run={screen.near(folder.root)}",
                f"{screen.beside('vdm-train')} {again} {other[0]}",
                f"{screen.beside('vdm-train')} -m {again} {other[1]}",
            ],
        ),
    )


def main() -> None:
    command.run("train", train, {"resume": bool, "leg": Mapping, "logger": Mapping[str, Mapping]})
