"""A LightningModule that evaluates a trained model and trains nothing."""

import lightning.pytorch as pl
from torch import Tensor

from vdm.batch import Batch
from vdm.bound import VariationalModel
from vdm.evaluation import BoundEvaluation


class EvaluationTask(pl.LightningModule):
    """Evaluates the bound of ``evaluated`` on test batches, for ``Trainer.test`` and the ``BoundTerms`` callback.

    Args:
        evaluated: the model, with its trained weights.
        test: how its bound is evaluated.
    """

    def __init__(self, evaluated: VariationalModel, test: BoundEvaluation) -> None:
        super().__init__()
        self.evaluated, self.test = evaluated, test

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.test(self.evaluated, batch)
