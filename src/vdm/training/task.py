"""The LightningModules that train a model on its ELBO, and that evaluate a trained one."""

import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import lightning.pytorch as pl
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from vdm.batch import Batch
from vdm.bound import Elbo, VariationalModel
from vdm.draws import Draws
from vdm.errors import InvalidInput, at_least
from vdm.evaluation import BoundEvaluation
from vdm.schedules import NoiseSchedule
from vdm.training.ema import ExponentialAverage


class EvaluationTask(pl.LightningModule):
    """Evaluate the bound of ``evaluated`` on test batches, for ``Trainer.test`` and the ``BoundTerms`` callback."""

    def __init__(self, evaluated: VariationalModel, test: BoundEvaluation) -> None:
        super().__init__()
        self.evaluated, self.test = evaluated, test

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.test(self.evaluated, batch)


class VariationalTask(pl.LightningModule):
    """Train ``model`` on its loss, and evaluate the bound with the EMA weights.

    Training draws are keyed by (seed, step, micro-batch) and evaluation draws by (seed, example, replicate). All
    micro-batches of a step, over processes and gradient accumulation, have different draws, and a resumed run repeats the
    uninterrupted one.

    Args:
        optimizer: builds the optimiser from ``parameter_groups``.
        learning_rate: builds the learning-rate schedule from the optimiser and the number of steps.
        validation, test: compute the bound of a batch.
    """

    def __init__(
        self,
        model: VariationalModel,
        optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer],
        learning_rate: Callable[[Optimizer, int], LRScheduler],
        ema_decay: float,
        validation: BoundEvaluation,
        test: BoundEvaluation,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.averaged = ExponentialAverage(model, ema_decay)
        self.optimizer, self.learning_rate = optimizer, learning_rate
        self.validation, self.test, self.seed = validation, test, seed

    @property
    def evaluated(self) -> VariationalModel:
        """The EMA model, used for validation, test and samples."""
        return cast(VariationalModel, self.averaged.module)

    def draws(self, batch_idx: int) -> Draws:
        """Draws for micro-batch ``batch_idx`` of this process."""
        accumulated = self.trainer.accumulate_grad_batches
        micro_batch = self.global_rank * accumulated + batch_idx % accumulated
        return Draws(self.seed, self.global_step, micro_batch, self.trainer.world_size * accumulated)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor | Elbo | None]:
        draws = self.draws(batch_idx)
        draws.seed_torch()
        loss = self.model.loss(batch, draws)
        return {"loss": loss.value.mean(), "bound": loss.bound, "gamma_t": loss.gamma_t}

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.validation(self.evaluated, batch)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.test(self.evaluated, batch)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        step = self.global_step
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.averaged.update(self.model, step)

    def on_train_start(self) -> None:
        """Take up the learning rate of this run's length: the restored one is that of the length it had before."""
        schedules = self.lr_schedulers() or []
        for schedule in schedules if isinstance(schedules, list) else [schedules]:
            if isinstance(schedule, LambdaLR):
                rates = zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
                for group, base, factor in rates:
                    group["lr"] = base * factor(schedule.last_epoch)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(parameter_groups(self.model))
        schedule = self.learning_rate(optimizer, training_steps(self.trainer))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Group ``model``'s parameters: noise schedules get no weight decay. Empty groups are left out.

    Weight decay on a noise schedule would pull γ(t) to an arbitrary shape wherever its gradient is small.
    """
    schedules = {p for part in model.modules() if isinstance(part, NoiseSchedule) for p in part.parameters()}
    others = [p for p in model.parameters() if p not in schedules]
    learned = [p for p in model.parameters() if p in schedules]
    groups: list[dict[str, Any]] = [{"params": others}, {"params": learned, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def check_trainer_settings(trainer: pl.Trainer) -> None:
    """Check the Trainer settings that Lightning accepts and this project cannot train with.

    Raises:
        InvalidInput: no epochs, the same epoch order repeated, an empty step or validation interval, or a bad clip value.
    """
    at_least(1, **{"trainer.accumulate_grad_batches": trainer.accumulate_grad_batches})
    clip = trainer.gradient_clip_val
    if clip is not None and not clip >= 0:
        raise InvalidInput(f"trainer.gradient_clip_val must be at least 0, or null for no clipping, got {clip}")
    if not trainer.limit_train_batches > 0:
        raise InvalidInput(f"trainer.limit_train_batches={trainer.limit_train_batches} trains nothing: leave it out")
    if trainer.max_epochs == 0:
        raise InvalidInput("trainer.max_epochs=0 trains nothing: set at least 1, or -1 to train for trainer.max_steps")
    if trainer.reload_dataloaders_every_n_epochs:  # type: ignore[attr-defined]
        raise InvalidInput(
            "trainer.reload_dataloaders_every_n_epochs would repeat one epoch's order and never use its incomplete last "
            "batch: leave it out"
        )
    if trainer.val_check_interval == 0:
        raise InvalidInput("trainer.val_check_interval must be at least 1, got 0")


def training_steps(trainer: pl.Trainer) -> int:
    """Return the number of optimiser steps of a run.

    Raises:
        InvalidInput: the number is 0 or infinite, or ``check_trainer_settings`` refuses.
    """
    check_trainer_settings(trainer)
    steps = trainer.estimated_stepping_batches
    if not 1 <= steps < math.inf:
        raise InvalidInput(
            f"the learning rate needs the number of steps, and trainer.max_steps={trainer.max_steps} gives none: set at "
            "least 1, or a number out of reach such as trainer.max_steps=1000000 for a run that a time limit ends"
        )
    return int(steps)
