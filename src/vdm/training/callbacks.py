"""What watches a run: the terms of the bound, progress and sample grids."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from vdm.bound import TERMS, Elbo, VariationalModel, term_names
from vdm.data import InMemoryData
from vdm.draws import ExampleDraws
from vdm.errors import at_least
from vdm.evaluation import BoundEvaluation, BoundSummary, Estimate
from vdm.training.media import keep
from vdm.training.module import VariationalTask


def record(trainer: pl.Trainer, metrics: dict[str, float]) -> None:
    """Give every logger the metrics, at the number of optimiser steps taken."""
    if trainer.is_global_zero:
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)


def flat(stage: str, estimates: dict[str, Estimate]) -> dict[str, float]:
    """``val/bits_per_dim``, ``val/bits_per_dim_mc_se``, ``val/bits_per_dim_data_se`` and so on, in bits/dim."""
    metrics = {}
    for name, estimate in estimates.items():
        metrics[f"{stage}/{name}"] = estimate.value
        metrics[f"{stage}/{name}_mc_se"] = estimate.mc_se
        metrics[f"{stage}/{name}_data_se"] = estimate.data_se
    return metrics


class BoundTerms(Callback):
    """Logs the bound and its three terms in bits/dim: training means every ``every`` steps, and whole evaluations.

    Evaluations have ``layer_1`` … as well, where the bound has one entry a layer.

    ``results`` holds the last validation's and the last test's estimates; ``validated`` is the step of the former.

    Raises:
        InvalidInput: ``every`` below 1.
    """

    def __init__(self, every: int = 25) -> None:
        at_least(1, every=every)
        self.every = every
        self.results: dict[str, dict[str, Estimate]] = {}
        self.validated: int | None = None
        self._summary: BoundSummary | None = None
        self._sums: Tensor | None = None
        self._count = self._step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        bound: Elbo = outputs["bound"]
        sums = torch.stack([bound.terms()[name].detach().double().sum() for name in TERMS])
        self._sums = sums if self._sums is None else self._sums.to(sums) + sums
        self._count += len(bound.reconstruction)
        if trainer.global_step == self._step:  # gradients are still being accumulated
            return
        self._step = trainer.global_step
        if self._step % self.every == 0:
            means = (self._sums / self._count).tolist()
            metrics = {f"train/{name}": mean for name, mean in zip(TERMS, means, strict=True)}
            for optimizer in trainer.optimizers[:1]:
                metrics["train/learning_rate"] = optimizer.param_groups[0]["lr"]
            record(trainer, metrics)
            self._sums, self._count = None, 0

    def state_dict(self) -> dict[str, Any]:
        return {
            "sums": self._sums,
            "count": self._count,
            "validated": self.validated,
            "results": {stage: {name: list(e) for name, e in terms.items()} for stage, terms in self.results.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._sums, self._count = state_dict["sums"], state_dict["count"]
        self.validated = state_dict.get("validated")
        stored = state_dict["results"].items()
        self.results = {stage: {name: Estimate(*e) for name, e in terms.items()} for stage, terms in stored}

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        self._begin(pl_module, pl_module.validation)

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        assert self._summary is not None
        self._summary.update(outputs)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        metrics, self.validated = self._conclude("val"), trainer.global_step
        for name, value in metrics.items():
            pl_module.log(name, value, logger=False)
        record(trainer, metrics)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        self._begin(pl_module, pl_module.test)

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.on_validation_batch_end(trainer, pl_module, outputs)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        record(trainer, self._conclude("test"))

    def _begin(self, pl_module: VariationalTask, evaluation: BoundEvaluation) -> None:
        names = term_names(pl_module.evaluated.columns)
        self._summary = BoundSummary(evaluation.repeats, names).to(pl_module.device)

    def _conclude(self, stage: str) -> dict[str, float]:
        assert self._summary is not None
        self.results[stage] = self._summary.compute()
        return flat(stage, self.results[stage])


class Progress(Callback):
    """One bar over the whole run, with the time left and the bound so far; one over the test set."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._open(trainer, "training", int(trainer.estimated_stepping_batches), trainer.global_step, "step")

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._bar is not None:
            self._bar.update(trainer.global_step - self._bar.n)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = trainer.callback_metrics.get("val/bits_per_dim")
        if self._bar is not None and value is not None:
            self._bar.set_postfix_str(f"validation {value:.3f} bits/dim")

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._open(trainer, "evaluating", int(sum(trainer.num_test_batches)), 0, "batch")

    def on_test_batch_end(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.update()

    def on_train_end(self, *_: Any) -> None:
        self._close()

    def on_test_end(self, *_: Any) -> None:
        self._close()

    def on_exception(self, *_: Any) -> None:
        self._close()

    def _open(self, trainer: pl.Trainer, what: str, total: int, done: int, unit: str) -> None:
        self._close()
        if trainer.is_global_zero:
            self._bar = tqdm(total=total, initial=done, desc=what, unit=unit, dynamic_ncols=True, mininterval=0.5)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class SampleGrid(Callback):
    """Draws the same samples (same noise) at every ``every``-th validation into the folder of pictures.

    Args:
        folder: where the pictures go.
        n: how many samples.
        every: how many validations apart.
        seed: of the sampling draws.

    Raises:
        InvalidInput: ``n`` or ``every`` below 1.
    """

    def __init__(self, folder: str, n: int = 64, every: int = 5, seed: int = 0) -> None:
        at_least(1, n=n, every=every)
        self.folder, self.n, self.every, self.seed = Path(folder), n, every, seed
        self.validations = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        self.validations += 1
        if self.validations % self.every == 0 and trainer.is_global_zero:
            data: InMemoryData = trainer.datamodule  # type: ignore[attr-defined]
            picture = draw_samples(pl_module.evaluated, data, self.n, self.seed)
            keep(trainer, self.folder / f"samples_step_{trainer.global_step:07d}.png", "samples", picture)

    def state_dict(self) -> dict[str, int]:
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.validations = state_dict["validations"]


def draw_samples(model: VariationalModel, data: InMemoryData, n: int, seed: int) -> Image.Image:
    """A picture of ``n`` samples with draws keyed by (seed, sample)."""
    draws, condition = ExampleDraws(torch.arange(n), seed), data.sampling_condition(n)
    if condition is not None:
        condition = condition.to(next(model.parameters()).device)
    return data.picture(model.sample(n, data.event_shape, draws=draws, condition=condition))
