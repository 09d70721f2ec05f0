"""Logging of the bound and its terms, in training and evaluation."""

import math
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from vdm.bound import Elbo
from vdm.errors import at_least
from vdm.estimate import Estimate
from vdm.evaluation import BoundEvaluation, BoundSummary
from vdm.runs.tables import STANDARD_ERRORS
from vdm.terms import LABELS
from vdm.training.loggers.base import log_metrics
from vdm.training.task import VariationalTask


class BoundTerms(Callback):
    """Log the bound and its three terms in bits/dim: training means every ``every`` steps, and each validation and test.

    Validation and test also log ``layer_1``, ``layer_2``, … if the bound has one entry per layer.

    Attributes:
        results: estimates of the last validation (``val``) and test (``test``).
        validated: step of the last validation.

    Raises:
        InvalidInput: ``every`` below 1.
    """

    def __init__(self, every: int = 25) -> None:
        at_least(1, every=every)
        self.every = every
        self.results: dict[str, dict[str, Estimate]] = {}
        self.validated: int | None = None
        self._summary: BoundSummary  # of the evaluation under way
        self._sums: Tensor | None = None
        self._count = self._step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        bound: Elbo = outputs["bound"]
        terms = {name: value for name, value in bound.terms().items() if name in LABELS}
        sums = torch.stack([value.detach().double().sum() for value in terms.values()])
        self._sums = sums if self._sums is None else self._sums.to(sums) + sums
        self._count += len(bound.reconstruction)
        if trainer.global_step == self._step:  # gradients are still being accumulated
            return
        self._step = trainer.global_step
        if self._step % self.every == 0:
            means = (self._sums / self._count).tolist()
            metrics = {f"train/{name}": mean for name, mean in zip(terms, means, strict=True)}
            for optimizer in trainer.optimizers[:1]:
                metrics["train/learning_rate"] = optimizer.param_groups[0]["lr"]
            log_metrics(trainer, metrics)
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
        self.results = {stage: {name: Estimate(*[*e, math.nan][:5]) for name, e in terms.items()} for stage, terms in stored}

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        self._start(pl_module, pl_module.validation)

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        self._summary.update(outputs)

    on_test_batch_end = on_validation_batch_end  # type: ignore[assignment]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        metrics, self.validated = self._finish("val"), trainer.global_step
        for name, value in metrics.items():
            pl_module.log(name, value, logger=False)
        log_metrics(trainer, metrics)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        self._start(pl_module, pl_module.test)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        log_metrics(trainer, self._finish("test"))

    def _start(self, pl_module: VariationalTask, evaluation: BoundEvaluation) -> None:
        model = pl_module.evaluated
        summary = BoundSummary(evaluation.repeats, model.term_names, model.independent_draws)
        self._summary = summary.to(pl_module.device)

    def _finish(self, stage: str) -> dict[str, float]:
        """Return ``val/bits_per_dim``, ``val/bits_per_dim_mc_se``, ``val/bits_per_dim_data_se`` and so on, in bits/dim."""
        self.results[stage] = terms = self._summary.compute()
        named = {f"{stage}/{name}": each for name, each in terms.items()}
        ends = ("", *STANDARD_ERRORS)
        return {f"{name}{end}": number for name, each in named.items() for end, number in zip(ends, each[:3], strict=True)}
