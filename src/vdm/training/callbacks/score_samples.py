"""FID and its relatives during a run and at its end."""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from tqdm.auto import tqdm

from vdm.bound import VariationalModel
from vdm.data import DataModule
from vdm.errors import InvalidInput
from vdm.evaluation.ranks import rank_and_world_size
from vdm.evaluation.samples.fid import FID
from vdm.evaluation.samples.sample_metrics import SampleMetric
from vdm.training.loggers.base import log_metrics
from vdm.training.task import VariationalTask


class ScoreSamples(Callback):
    """Scores samples of the evaluated model: ``val/fid_…`` at every ``every``-th validation, ``test/fid_…`` at the end.

    The draws are the same at every validation and those of no one else, so training does not notice.

    Args:
        fid: None to do nothing.
        levels: of the data.
        every: how many validations apart.
        relatives: what else is said of the same samples.

    Attributes:
        entry: the last numbers at the end and what they depend on, as they stand in metrics.json; empty before.

    Raises:
        InvalidInput: relatives without a FID; ``every`` below 1.
    """

    def __init__(self, fid: FID | None, levels: int, every: int = 5, relatives: Sequence[SampleMetric] = ()) -> None:
        if fid is None and relatives:
            raise InvalidInput("KID, Inception score, precision and recall need a feature network: add fid=inception")
        if every < 1:
            raise InvalidInput(f"score_samples.every counts validations and must be at least 1, got {every}")
        self.fid, self.levels, self.every, self.relatives = fid, levels, every, tuple(relatives)
        self.validations, self.entry = 0, dict[str, Any]()

    def check(self, model: VariationalModel, data: DataModule) -> None:
        """Raises InvalidInput, before any work, where these samples cannot be scored."""
        if self.fid is not None:
            self.fid.check(model, data, self.levels)
            for relative in self.relatives:
                relative.check(self.fid.network, self.fid.n, len(data.splits()[self.fid.split].x))

    def score(self, model: VariationalModel, data: DataModule, device: torch.device) -> dict[str, float]:
        """The numbers by name; every process takes part. ``entry`` keeps them."""
        if self.fid is None:
            return {}
        self.fid.prepare(data, self.levels, device)
        bar = tqdm(
            total=1000, desc=self.fid.name, unit="‰", leave=False, dynamic_ncols=True, disable=rank_and_world_size()[0] > 0
        )
        with bar:
            values = self.fid(model, data, lambda done: bar.update(int(1000 * done) - bar.n), self.relatives)
        self.entry = {**values, **self.fid.facts(model)}
        return values

    def on_fit_start(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        data: DataModule = trainer.datamodule  # type: ignore[attr-defined]
        self.check(pl_module.evaluated, data)
        if self.fid is not None:
            self.fid.prepare(data, self.levels, pl_module.device)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        self.validations += 1
        if self.validations % self.every == 0:
            values = self._score("val", trainer, pl_module)
            for name, value in values.items():
                pl_module.log(name, value, logger=False)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: VariationalTask) -> None:  # type: ignore[override]
        self._score("test", trainer, pl_module)

    def state_dict(self) -> dict[str, int]:
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.validations = state_dict["validations"]

    def _score(self, stage: str, trainer: pl.Trainer, task: VariationalTask) -> dict[str, float]:
        data: DataModule = trainer.datamodule  # type: ignore[attr-defined]
        scores = {f"{stage}/{name}": value for name, value in self.score(task.evaluated, data, task.device).items()}
        if scores:
            log_metrics(trainer, scores)
        return scores
