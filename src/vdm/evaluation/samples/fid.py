"""The Fréchet distance (FID) between the features of samples and of data, on any number of processes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vdm.bound import VariationalModel
from vdm.data import DataModule
from vdm.draws import ExampleDraws
from vdm.errors import InvalidInput, at_least
from vdm.evaluation.estimator import Progress, diffusion
from vdm.evaluation.ranks import all_gather_rows, rank_and_world_size, rank_batches, true_on_all_ranks
from vdm.evaluation.samples.features import FeatureNetwork, as_images, fingerprint, optional_module
from vdm.evaluation.samples.moments import Moments, read_moments, write_moments
from vdm.evaluation.samples.sample_metrics import SampleMetric
from vdm.models import DiffusionModel

SUMS = ("real_features_num_samples", "real_features_sum", "real_features_cov_sum")
"""Names in torchmetrics of the data's N, Σ f and Σ f fᵀ."""


class FID:
    """‖μ − μ_d‖² + tr(Σ + Σ_d − 2 (Σ Σ_d)^½) of n samples against a split of the data (Heusel et al. 2017).

    Noise is keyed by (seed, number of the sample) and batches are shared between processes, so that any number of processes
    draws the same n samples. Sums and distance are those of torchmetrics' FrechetInceptionDistance, in float64. All
    processes must take part in every call.

    Args:
        network: computes the features; its name is part of the metric's name.
        n: number of samples.
        split: split of the data to compare with.
        batch_size: number of images in a batch, of samples and of data.
        steps: number of sampler steps; null for the model's own.
        seed: of the sampling draws.
        cache: folder for the data's moments; null to measure them in every run.

    Raises:
        InvalidInput: fewer than two samples; ``batch_size`` or ``steps`` below 1; torchmetrics' FID cannot be imported.
    """

    def __init__(
        self,
        network: FeatureNetwork,
        n: int,
        split: str = "train",
        batch_size: int = 250,
        steps: int | None = None,
        seed: int = 0,
        cache: str | None = None,
    ) -> None:
        at_least(2, **{"fid.n": n})
        at_least(1, **{"fid.batch_size": batch_size, "fid.steps": 1 if steps is None else steps})
        self.network, self.n, self.split, self.batch_size = network.eval().requires_grad_(False), n, split, batch_size
        self.steps, self.seed, self.cache = steps, seed, None if cache is None else Path(cache).expanduser()
        identity = nn.Identity()  # the metric receives features, not images
        identity.num_features = network.num_features  # type: ignore[assignment]
        self.metric = optional_module("torchmetrics.image.fid").FrechetInceptionDistance(identity, reset_real_features=False)
        self.metric.orig_dtype = torch.float64
        self.device, self.reference = torch.device("cpu"), dict[str, Any]()

    @property
    def name(self) -> str:
        """Name of the metric, such as ``fid_inception``: only FIDs of the same features are comparable."""
        return f"fid_{self.network.name}"

    def check(self, model: VariationalModel, data: DataModule, levels: int) -> None:
        """Raise InvalidInput if the data are not images, the split does not exist, or the model has no sampler steps."""
        data.ordered(self.split)
        if len(data.event_shape) != 3 or data.event_shape[0] not in (1, 3) or levels < 2:
            raise InvalidInput(f"a FID needs images with 1 or 3 channels and integer levels, not {data.name}: set fid=null")
        if self.steps is not None:
            diffusion(model, "fid.steps")

    @torch.inference_mode()
    def prepare(self, data: DataModule, levels: int, device: torch.device) -> None:
        """Read the data's moments from the cache, or measure them if images, levels or network are new to it."""
        split = data.splits()[self.split]
        reference = {"split": self.split, "examples": len(split.x), "sha256": split.fingerprint(), "levels": levels}
        if self.reference == reference:
            return
        self.device, self.reference = device, reference
        self.network.to(device)
        self.metric.to(device)
        about = {"data": reference["sha256"], "levels": levels, "network": self.network.identity()}
        moments = None if self.cache is None else read_moments(self.cache, about)
        cached = true_on_all_ranks(moments is not None, device)  # otherwise all measure, each its share
        if moments is None or not cached:
            moments = self._measure(split.x)
            if self.cache is not None and rank_and_world_size()[0] == 0:
                write_moments(self.cache, about, moments)
        self._compare_with(moments)

    @torch.inference_mode()
    def __call__(
        self, model: VariationalModel, data: DataModule, progress: Progress, metrics: Sequence[SampleMetric] = ()
    ) -> dict[str, float]:
        """Return the FID and the other ``metrics`` of the same samples by name; call ``prepare`` first."""
        self.metric.reset()
        drawn = []
        for index, x in self._samples(model, data):
            features = self._features(x)
            self.metric.update(features, real=False)
            if metrics:
                drawn.append((index, features.float().cpu()))
            progress((int(index[-1]) + 1) / self.n)
        values = {self.name: self.metric.compute().item()}
        if metrics:
            examples = data.splits()[self.split].x
            real = [(i, self._features(examples[i]).float().cpu()) for i in rank_batches(len(examples), self.batch_size)]
            both = [all_gather_rows(pieces, self.network.num_features, self.device) for pieces in (drawn, real)]
            for metric in metrics:
                values |= metric(self.network, *both)
        return values

    def facts(self, model: VariationalModel) -> dict[str, Any]:
        """Return the settings and hashes that the values depend on, for metrics.json."""
        facts: dict[str, Any] = {"n": self.n, "seed": self.seed, "weights_sha256": fingerprint(model)}
        if isinstance(model, DiffusionModel):
            sampler, spacing = model.sampling.sampler, model.sampling.spacing
            settings = ", ".join(f"{name}={value}" for name, value in vars(sampler).items())
            facts["sampler"] = f"{type(sampler).__name__}({settings})"
            facts["spacing"] = type(spacing).__name__
            facts["guidance"] = f"{type(model.sampling.guidance).__name__}({vars(model.sampling.guidance)})"
            facts["steps"] = self.steps or model.default_steps
        facts |= {"data": self.reference, "network": self.network.identity()}
        if min(self.n, self.reference["examples"]) < 10 * self.network.num_features:
            facts["note"] = (
                f"few images for {self.network.num_features} features, so biased upwards: compare at the same n, or use KID"
            )
        return facts

    def _features(self, x: Tensor) -> Tensor:
        return self.network(as_images(x.to(self.device), self.reference["levels"]))

    def _samples(self, model: VariationalModel, data: DataModule) -> Iterator[tuple[Tensor, Tensor]]:
        """Draw this process's share of the samples, as (index, samples)."""
        conditions, shape = data.sampling_condition(self.n), data.event_shape
        for index in rank_batches(self.n, self.batch_size):
            draws = ExampleDraws(index, self.seed)
            condition = None if conditions is None else conditions[index].to(self.device)
            if isinstance(model, DiffusionModel):
                yield index, model.sample(len(index), shape, steps=self.steps, draws=draws, condition=condition)
            else:
                yield index, model.sample(len(index), shape, draws=draws, condition=condition)

    def _measure(self, examples: Tensor) -> Moments:
        for name in SUMS:
            getattr(self.metric, name).zero_()
        for index in rank_batches(len(examples), self.batch_size):
            self.metric.update(self._features(examples[index]), real=True)
        with self.metric.sync_context():
            count, total, outer = (getattr(self.metric, name) for name in SUMS)
            return Moments.from_sums(int(count), total, outer)

    def _compare_with(self, moments: Moments) -> None:
        """Store the data's sums in the metric of rank 0, and zeros in the others: the metric adds up all ranks."""
        for name, value in zip(SUMS, moments.sums(), strict=True):
            total = torch.as_tensor(value, device=self.device)
            setattr(self.metric, name, total if rank_and_world_size()[0] == 0 else torch.zeros_like(total))
