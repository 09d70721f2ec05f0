"""``vdm-train``: train a model, evaluate it on the whole test set, leave a folder behind."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from vdm.cli import command, screen
from vdm.cli.build import as_metrics, build, provenance, quiet
from vdm.pictures import bound_curves
from vdm.training.budget import CpuTime
from vdm.training.callbacks import BoundTerms, draw_samples
from vdm.training.checkpoints import AtomicCheckpoints, Identity
from vdm.training.run_folder import RunFolder


def train(config: DictConfig) -> float:
    """One run; returns the validation bound in bits/dim, for sweepers."""
    quiet()
    folder = RunFolder(config.output_dir)
    data, task = build(config)
    facts = provenance(data, config.seed)
    folder.begin(config)
    callbacks = dict(instantiate(config.callbacks))
    terms: BoundTerms = callbacks["bound_terms"]
    loggers = list(instantiate(config.logger).values())
    resolved: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    trainer: pl.Trainer = instantiate(
        config.trainer,
        callbacks=[*callbacks.values(), Identity(resolved, facts)],
        logger=loggers,
        plugins=[AtomicCheckpoints()],
    )
    for logger in loggers:
        logger.log_hyperparams(resolved)
    weights = sum(p.numel() for p in task.model.parameters())
    sizes = ", ".join(f"{len(split.x)} {name}" for name, split in data.splits().items())
    screen.show(f"{data.name} ({sizes}); {weights:,} weights; {trainer.max_steps} steps; {folder.root}")

    trainer.fit(task, datamodule=data)
    saved = [folder.checkpoints / name for name in ("best.ckpt", "last.ckpt")]
    chosen = next((path for path in saved if path.exists()), None)
    if chosen is None:
        chosen = folder.checkpoints / "last.ckpt"
        trainer.save_checkpoint(chosen)
    trainer.test(task, datamodule=data, ckpt_path=str(chosen), verbose=False)

    if trainer.is_global_zero:
        folder.pictures.mkdir(parents=True, exist_ok=True)
        draw_samples(task.evaluated, data, 64, config.seed).save(folder.pictures / "samples.png")
        for logger in loggers:
            logger.finalize("success")
        if folder.curves.exists():
            bound_curves(folder.curves).savefig(folder.pictures / "bound.png", dpi=120)
        draws = {"weights": "ema", "repeats": task.test.repeats, "draws_seed": task.test.seed}
        spent: CpuTime = callbacks["cpu_time"]
        effort = {"parameters": weights, "steps": trainer.global_step, "training_cpu_seconds": round(spent.used, 2)}
        facts = {**facts, "checkpoint": chosen.name, **draws, **effort}
        folder.write_metrics({"test": as_metrics(terms.results["test"]), "provenance": facts})
        report(folder, chosen, terms, data.name)
    return terms.results.get("val", terms.results["test"])["bits_per_dim"].value


def report(folder: RunFolder, checkpoint: Path, terms: BoundTerms, name: str) -> None:
    """The closing table, the pictures, and what to try next."""
    experiment = f"experiment={HydraConfig.get().runtime.choices['experiment']}"
    screen.show(
        screen.bound_table(f"{name}, whole test set, averaged weights of {checkpoint.name}", terms.results["test"]),
        screen.listing("pictures", [str(folder.pictures / name) for name in ("samples.png", "bound.png")]),
        screen.listing(
            "next",
            [
                f"{screen.beside('vdm-evaluate')} ckpt={checkpoint}",
                f"{screen.beside('vdm-sample')} ckpt={checkpoint} n=64",
                f"{screen.beside('vdm-train')} {experiment} schedule=cosine",
                f"{screen.beside('vdm-train')} -m {experiment} schedule=linear,cosine seed=1,2,3",
            ],
        ),
    )


def main() -> None:
    command.run("train", train)
