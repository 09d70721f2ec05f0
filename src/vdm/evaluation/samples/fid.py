"""The Fréchet distance between the features of samples and of data, on any number of processes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vdm.bound import VariationalModel
from vdm.data import DataModule
from vdm.draws import ExampleDraws
from vdm.errors import InvalidInput
from vdm.evaluation.estimator import Progress, diffusion
from vdm.evaluation.ranks import all_gather_rows, rank_and_world_size, rank_batches, true_on_all_ranks
from vdm.evaluation.samples.features import FeatureNetwork, as_images, fingerprint, optional
from vdm.evaluation.samples.moments import Moments, read_moments, write_moments
from vdm.evaluation.samples.sample_metrics import SampleMetric
from vdm.models import VDM

SUMS = ("real_features_num_samples", "real_features_sum", "real_features_cov_sum")
"""How torchmetrics names N, Σ f and Σ f fᵀ of the data."""


class FID:
    """‖μ − μ_d‖² + tr(Σ + Σ_d − 2 (Σ Σ_d)^½) of n samples against a split of the data (Heusel et al. 2017).

    Sample i is drawn with noise keyed by (seed, i), in batches that the processes take turns at: one process and N see the
    same n samples. Sums and distance are torchmetrics' FrechetInceptionDistance's, in float64. Every process has to take
    part in every call.

    Args:
        network: what makes the features; its name is in the metric's.
        n: how many samples.
        split: of the data, to compare with.
        batch_size: how many images are drawn, or looked at, side by side.
        steps: of the sampler; null for the model's own.
        seed: of the sampling draws.
        cache: folder where the data's moments are kept; null to measure them in every run.

    Raises:
        InvalidInput: fewer than two samples; no steps; torchmetrics' image metrics cannot be imported.
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
        if n < 2 or batch_size < 1:
            raise InvalidInput(f"fid.n must be at least 2 and fid.batch_size at least 1, got {n} and {batch_size}")
        if steps is not None and steps < 1:
            raise InvalidInput(f"fid.steps must be at least 1, got {steps}; null for the model's own")
        self.network, self.n, self.split, self.batch_size = network.eval().requires_grad_(False), n, split, batch_size
        self.steps, self.seed, self.cache = steps, seed, None if cache is None else Path(cache).expanduser()
        given = nn.Identity()
        given.num_features = network.num_features  # type: ignore[assignment]
        self.metric = optional("torchmetrics.image.fid").FrechetInceptionDistance(given, reset_real_features=False)
        self.metric.orig_dtype = torch.float64
        self.device, self.reference = torch.device("cpu"), dict[str, Any]()

    @property
    def name(self) -> str:
        """``fid_inception`` and so on: a FID means something only beside others of the same features."""
        return f"fid_{self.network.name}"

    def check(self, model: VariationalModel, data: DataModule, levels: int) -> None:
        """Raises InvalidInput for data that are no images, a split that is not there, or steps that the model has not."""
        data.ordered(self.split)
        if len(data.event_shape) != 3 or data.event_shape[0] not in (1, 3) or levels < 2:
            raise InvalidInput(f"a FID is of images with 1 or 3 channels and integer levels, not of {data.name}: fid=null")
        if self.steps is not None:
            diffusion(model, "fid.steps")

    @torch.inference_mode()
    def prepare(self, data: DataModule, levels: int, device: torch.device) -> None:
        """Have the data's moments: those kept from an earlier run with the same images and network, or new ones."""
        split = data.splits()[self.split]
        reference = {"split": self.split, "examples": len(split.x), "sha256": split.fingerprint(), "levels": levels}
        if self.reference == reference:
            return
        self.device, self.reference = device, reference
        self.network.to(device)
        self.metric.to(device)
        about = {"data": reference["sha256"], "levels": levels, "network": self.network.identity()}
        moments = None if self.cache is None else read_moments(self.cache, about)
        known = true_on_all_ranks(moments is not None, device)  # or all measure, since each has a share
        if moments is None or not known:
            moments = self._measure(split.x)
            if self.cache is not None and rank_and_world_size()[0] == 0:
                write_moments(self.cache, about, moments)
        self._compare_with(moments)

    @torch.inference_mode()
    def __call__(
        self, model: VariationalModel, data: DataModule, progress: Progress, relatives: Sequence[SampleMetric] = ()
    ) -> dict[str, float]:
        """The distance by its name, and what ``relatives`` make of the same samples; after ``prepare``."""
        self.metric.reset()
        kept = []
        for index, x in self._samples(model, data):
            features = self._features(x)
            self.metric.update(features, real=False)
            if relatives:
                kept.append((index, features.float().cpu()))
            progress((int(index[-1]) + 1) / self.n)
        values = {self.name: self.metric.compute().item()}
        if relatives:
            examples = data.splits()[self.split].x
            seen = [(i, self._features(examples[i]).float().cpu()) for i in rank_batches(len(examples), self.batch_size)]
            pair = [all_gather_rows(pieces, self.network.num_features, self.device) for pieces in (kept, seen)]
            for relative in relatives:
                values |= relative(self.network, *pair)
        return values

    def facts(self, model: VariationalModel) -> dict[str, Any]:
        """What the numbers depend on, to stand beside them."""
        facts: dict[str, Any] = {"n": self.n, "seed": self.seed, "weights_sha256": fingerprint(model)}
        if isinstance(model, VDM):
            sampler, spacing = model.sampling.sampler, model.sampling.spacing
            settings = ", ".join(f"{name}={value}" for name, value in vars(sampler).items())
            facts["sampler"] = f"{type(sampler).__name__}({settings})"
            facts["spacing"] = type(spacing).__name__
            facts["steps"] = self.steps or model.default_steps
        facts |= {"data": self.reference, "network": self.network.identity()}
        if min(self.n, self.reference["examples"]) < 10 * self.network.num_features:
            facts["note"] = (
                f"few images for {self.network.num_features} features: biased upwards; compare at the same n, or by KID"
            )
        return facts

    def _features(self, x: Tensor) -> Tensor:
        return self.network(as_images(x.to(self.device), self.reference["levels"]))

    def _samples(self, model: VariationalModel, data: DataModule) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share: (index, samples)."""
        conditions, shape = data.sampling_condition(self.n), data.event_shape
        for index in rank_batches(self.n, self.batch_size):
            draws = ExampleDraws(index, self.seed)
            condition = None if conditions is None else conditions[index].to(self.device)
            if isinstance(model, VDM):
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
        """The data's sums, held by the first process alone: the metric adds those of all."""
        for name, value in zip(SUMS, moments.sums(), strict=True):
            held = torch.as_tensor(value, device=self.device)
            setattr(self.metric, name, held if rank_and_world_size()[0] == 0 else torch.zeros_like(held))
