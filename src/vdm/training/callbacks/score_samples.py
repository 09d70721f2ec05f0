"""Score samples (FID and sample metrics) during a run and at its end."""

from collections.abc import Sequence

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from vdm.data import DataModule
from vdm.errors import at_least
from vdm.evaluation.samples.fid import FID
from vdm.evaluation.samples.sample_metrics import SampleMetric
from vdm.evaluation.samples.scores import SampleScores
from vdm.training.loggers.base import log_metrics
from vdm.training.task import VariationalTask


class ScoreSamples(Callback):
    """Log ``val/fid_…`` at every ``every``-th validation and ``test/fid_…`` at the end, for the evaluated model.

    Every score uses the same draws, which nothing else uses, so training is bit for bit the same with and without.

    Args:
        fid: None to do nothing.
        relatives: sample metrics to compute from the same samples.

    Raises:
        InvalidInput: ``relatives`` without a FID; ``every`` below 1.
    """

    def __init__(self, fid: FID | None, levels: int, every: int = 5, relatives: Sequence[SampleMetric] = ()) -> None:
        at_least(1, **{"score_samples.every": every})
        self.scores, self.fid, self.every, self.validations = SampleScores(fid, levels, relatives), fid, every, 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        data: DataModule = trainer.datamodule  # type: ignore[attr-defined]
        self.scores.check(pl_module.evaluated, data)
        self.scores.prepare(data, pl_module.device)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        self.validations += 1
        if self.validations % self.every == 0:
            for name, value in self._score("val", trainer, pl_module).items():
                pl_module.log(name, value, logger=False)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        self._score("test", trainer, pl_module)

    def state_dict(self) -> dict[str, int]:
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.validations = state_dict["validations"]

    def _score(self, stage: str, trainer: pl.Trainer, task: VariationalTask) -> dict[str, float]:
        data: DataModule = trainer.datamodule  # type: ignore[attr-defined]
        values = self.scores.score(task.evaluated, data, task.device)
        scores = {f"{stage}/{name}": value for name, value in values.items()}
        if scores:
            log_metrics(trainer, scores)
        return scores
