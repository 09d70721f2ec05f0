"""The training task with its callbacks, loggers, EMA, learning rates and signal handling."""

from vdm.training.task import VariationalTask

__all__ = ["VariationalTask"]
