"""Training: the LightningModule, its callbacks, the run's folder and its checkpoints."""

from vdm.training.module import VariationalTask

__all__ = ["VariationalTask"]
