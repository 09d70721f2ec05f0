"""FID and related sample metrics, during a run and at its end."""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from tqdm.auto import tqdm

from vdm.bound import VariationalModel
from vdm.data import InMemoryData
from vdm.errors import InvalidInput, at_least
from vdm.evaluation.ranks import rank_and_world_size
from vdm.evaluation.samples.fid import FID
from vdm.evaluation.samples.sample_metrics import SampleMetric
from vdm.training.loggers.base import log_metrics
from vdm.training.task import VariationalTask


class ScoreSamples(Callback):
    """Score samples of the EMA model: log ``val/fid_…`` at every ``every``-th validation, ``test/fid_…`` at the end.

    Every score uses the same draws, independent of the training draws.

    Args:
        fid: FID to compute; None to compute nothing.
        levels: grey levels of the data.
        every: validations between two scores.
        relatives: further metrics of the same samples.

    Attributes:
        entry: last scores with the settings they depend on, as in metrics.json; empty before the first.

    Raises:
        InvalidInput: ``relatives`` without a FID, or ``every`` below 1.
    """

    def __init__(self, fid: FID | None, levels: int, every: int = 5, relatives: Sequence[SampleMetric] = ()) -> None:
        if fid is None and relatives:
            raise InvalidInput("KID, Inception score, precision and recall need a feature network: add fid=inception")
        at_least(1, every=every)
        self.fid, self.levels, self.every, self.relatives = fid, levels, every, tuple(relatives)
        self.validations, self.entry = 0, dict[str, Any]()

    def check(self, model: VariationalModel, data: InMemoryData) -> None:
        """Raise InvalidInput if samples of ``model`` cannot be scored on ``data``."""
        if self.fid is not None:
            self.fid.check(model, data, self.levels)
            for relative in self.relatives:
                relative.check(self.fid.network, self.fid.n, len(data.splits()[self.fid.split].x))

    def score(self, model: VariationalModel, data: InMemoryData, device: torch.device) -> dict[str, float]:
        """Return the scores by name, and set ``entry``. Call it in every process."""
        if self.fid is None:
            return {}
        self.fid.prepare(data, self.levels, device)
        rank, _ = rank_and_world_size()
        with tqdm(total=1000, desc=self.fid.name, unit="‰", leave=False, dynamic_ncols=True, disable=rank > 0) as bar:
            values = self.fid(model, data, lambda done: bar.update(int(1000 * done) - bar.n), self.relatives)
        self.entry = {**values, **self.fid.facts(model)}
        return values

    def on_fit_start(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        data: InMemoryData = trainer.datamodule  # type: ignore[attr-defined]
        self.check(pl_module.evaluated, data)
        if self.fid is not None:
            self.fid.prepare(data, self.levels, pl_module.device)

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
        data: InMemoryData = trainer.datamodule  # type: ignore[attr-defined]
        scores = {f"{stage}/{name}": value for name, value in self.score(task.evaluated, data, task.device).items()}
        if scores:
            log_metrics(trainer, scores)
        return scores
