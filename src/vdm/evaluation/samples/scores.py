"""FID and sample metrics of a model, in training and in ``vdm-evaluate``."""

from collections.abc import Sequence
from typing import Any

import torch

from vdm.bars import share_bar
from vdm.bound import VariationalModel
from vdm.data import DataModule
from vdm.errors import InvalidInput
from vdm.evaluation.ranks import rank_and_world_size
from vdm.evaluation.samples.fid import FID
from vdm.evaluation.samples.sample_metrics import SampleMetric


class SampleScores:
    """Draw samples once and compute the FID and the sample metrics from them.

    Args:
        fid: None to compute nothing.
        levels: number of levels of the data.
        metrics: sample metrics to compute from the same samples.

    Attributes:
        entry: the latest scores and the settings they depend on, as written to metrics.json; empty before the first.

    Raises:
        InvalidInput: sample metrics without a FID.
    """

    def __init__(self, fid: FID | None, levels: int, metrics: Sequence[SampleMetric] = ()) -> None:
        if fid is None and metrics:
            raise InvalidInput("KID, Inception score, precision and recall need a feature network: add fid=inception")
        self.fid, self.levels, self.metrics, self.entry = fid, levels, tuple(metrics), dict[str, Any]()

    def check(self, model: VariationalModel, data: DataModule) -> None:
        """Raise InvalidInput, before any work, if samples of this model cannot be scored."""
        if self.fid is not None:
            self.fid.check(model, data, self.levels)
            for metric in self.metrics:
                metric.check(self.fid.network, self.fid.n, len(data.splits()[self.fid.split].x))

    def prepare(self, data: DataModule, device: torch.device) -> None:
        """Read or measure the moments of the data's features. All processes must call it."""
        if self.fid is not None:
            self.fid.prepare(data, self.levels, device)

    def score(self, model: VariationalModel, data: DataModule, device: torch.device) -> dict[str, float]:
        """Return the scores by name and store them in ``entry``. All processes must call it."""
        if self.fid is None:
            return {}
        self.prepare(data, device)
        with share_bar(self.fid.name, quiet=rank_and_world_size()[0] > 0) as progress:
            values = self.fid(model, data, progress, self.metrics)
        self.entry = {**values, **self.fid.facts(model)}
        return values
