"""Training: the LightningModule, its callbacks and loggers, the average of the weights, and signals."""

from vdm.training.task import VariationalTask

__all__ = ["VariationalTask"]
