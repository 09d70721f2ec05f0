"""The LightningModule: glue between a model with an ELBO and a Trainer."""

import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import lightning.pytorch as pl
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from vdm.batch import Batch
from vdm.bound import Elbo, VariationalModel
from vdm.draws import Draws
from vdm.errors import InvalidInput, at_least
from vdm.evaluation import BoundEvaluation
from vdm.training.ema import ExponentialAverage
from vdm.training.parameters import ParameterGroup, parameter_groups


class VariationalTask(pl.LightningModule):
    """Trains ``model`` on its loss, and evaluates the bound of the averaged weights.

    Training draws are keyed by (seed, step, part) and evaluation draws by (seed, example, replicate): the parts of a step,
    which are the batches of all processes whose gradients it adds up, differ, and a resumed run repeats an uninterrupted
    one.

    Args:
        model: what is trained.
        optimizer: from groups of parameters to an optimiser.
        learning_rate: from the optimiser and the number of steps to a learning-rate schedule.
        ema_decay: of the average that is evaluated.
        validation, test: how the bound is evaluated.
        seed: of the training draws.
    """

    def __init__(
        self,
        model: VariationalModel,
        optimizer: Callable[[Iterable[ParameterGroup]], Optimizer],
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
        """The model that validation, test and pictures look at: the averaged one."""
        return cast(VariationalModel, self.averaged.module)

    def draws(self, batch_idx: int) -> Draws:
        """Those of the part of a step that batch number ``batch_idx`` of this process is."""
        parts = self.trainer.accumulate_grad_batches
        part = self.global_rank * parts + batch_idx % parts
        return Draws(self.seed, self.global_step, part, self.trainer.world_size * parts)

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

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(parameter_groups(self.model))
        schedule = self.learning_rate(optimizer, steps_of(self.trainer))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def check_trainer_settings(trainer: pl.Trainer) -> None:
    """Raises InvalidInput for no epoch, the same one again, a step or a validation of no batches, and a bound on gradients
    that is no number.
    """
    at_least(1, **{"trainer.accumulate_grad_batches": trainer.accumulate_grad_batches})
    clip = trainer.gradient_clip_val
    if clip is not None and not clip >= 0:
        raise InvalidInput(f"trainer.gradient_clip_val must be a positive number, or null for no clipping, got {clip}")
    if trainer.max_epochs == 0:
        raise InvalidInput("trainer.max_epochs=0 trains nothing: it must be at least 1, or -1 to go by trainer.max_steps")
    if trainer.reload_dataloaders_every_n_epochs:  # type: ignore[attr-defined]
        raise InvalidInput(
            "trainer.reload_dataloaders_every_n_epochs would repeat one epoch's order, and never train on what that leaves "
            "over: leave it out"
        )
    if trainer.val_check_interval == 0:
        raise InvalidInput("trainer.val_check_interval=0 is no number of batches: it must be at least 1")


def steps_of(trainer: pl.Trainer) -> int:
    """How many optimiser steps a run takes.

    Raises:
        InvalidInput: none, or no end of them; see ``check_trainer_settings``.
    """
    check_trainer_settings(trainer)
    steps = trainer.estimated_stepping_batches
    if not 1 <= steps < math.inf:
        raise InvalidInput(
            f"the learning rate needs to know the number of steps, and trainer.max_steps={trainer.max_steps} gives none: a "
            "run that a budget ends takes one that it will not reach, such as trainer.max_steps=1000000"
        )
    return int(steps)
