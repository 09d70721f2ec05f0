"""``vdm-evaluate ckpt=…``: the bound of a trained model, with its error bars."""

import lightning.pytorch as pl
from omegaconf import DictConfig

from vdm.cli import command, screen
from vdm.cli.build import as_metrics, provenance, quiet, restore
from vdm.training.callbacks import BoundTerms, Progress
from vdm.training.run_folder import RunFolder


def evaluate(config: DictConfig) -> float:
    """The bound in bits/dim of one split; the same number as at the end of training, unless asked otherwise."""
    quiet()
    changes = {"test.repeats": config.repeats, "test.seed": config.seed, "data.eval_batch_size": config.batch_size}
    (data, task), checkpoint = restore(config.ckpt, config.ema, changes)
    folder, terms = RunFolder(config.output_dir), BoundTerms()
    trainer = pl.Trainer(
        accelerator=config.accelerator,
        devices=1,
        logger=False,
        callbacks=[terms, Progress()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.test(task, dataloaders=data.ordered(config.split), verbose=False)
    weights = "ema" if config.ema else "raw"
    facts = {
        **provenance(data, checkpoint.config["seed"]),
        "checkpoint": str(checkpoint.path),
        "step": checkpoint.step,
        "weights": weights,
        "split": config.split,
        "repeats": task.test.repeats,
        "draws_seed": task.test.seed,
    }
    folder.write_metrics({config.split: as_metrics(terms.results["test"]), "provenance": facts})
    title = f"{data.name}, whole {config.split} set, {weights} weights of step {checkpoint.step}"
    screen.show(screen.bound_table(title, terms.results["test"]), f"written to {folder.metrics}")
    return terms.results["test"]["bits_per_dim"].value


def main() -> None:
    command.run("evaluate", evaluate)
