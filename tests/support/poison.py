"""NaN weights or an exception in one process during training."""

import math

from lightning.pytorch.callbacks import Callback


class Poison(Callback):
    """Set all weights of process ``rank`` to NaN before step ``step``."""

    def __init__(self, rank, step):
        self.rank, self.step = rank, step

    def on_train_batch_start(self, trainer, task, *_):
        if (trainer.global_rank, trainer.global_step) == (self.rank, self.step):
            for weight in task.model.parameters():
                weight.data.fill_(math.nan)


class PoisonValidation(Callback):
    """Set the averaged weights of process ``rank`` to NaN for the duration of each validation."""

    def __init__(self, rank):
        self.rank, self.kept = rank, {}

    def on_validation_start(self, trainer, task):
        if trainer.global_rank == self.rank:
            self.kept = {name: value.clone() for name, value in task.averaged.module.state_dict().items()}
            for weight in task.averaged.module.parameters():
                weight.data.fill_(math.nan)

    def on_validation_end(self, trainer, task):
        if self.kept:
            task.averaged.module.load_state_dict(self.kept)


class Raise(Callback):
    """Raise an exception in process ``rank`` before step ``step``."""

    def __init__(self, rank, step):
        self.rank, self.step = rank, step

    def on_train_batch_start(self, trainer, task, *_):
        if (trainer.global_rank, trainer.global_step) == (self.rank, self.step):
            raise ArithmeticError("of rank 1 alone")
