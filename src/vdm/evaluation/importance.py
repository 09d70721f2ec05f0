"""The importance-weighted bound from whole trajectories."""

import math

import torch
from torch import Tensor

from vdm.batch import Batch, chunks, repeat_batch
from vdm.bound import VariationalModel
from vdm.draws import ExampleDraws, StackedDraws, scalar_dtype
from vdm.elbo import DiscreteTime
from vdm.errors import InvalidInput, at_most
from vdm.evaluation.estimator import Estimator, Progress, Result, need_two
from vdm.evaluation.summary import summarise
from vdm.gamma import event_dims
from vdm.models import DiffusionModel
from vdm.terms import bits_per_dim


class ImportanceWeighted(Estimator):
    """E log (1/K) Σ_k w_k, where log w_k is the log-ratio (1.32) of the k-th of K independent whole trajectories.

    It is at most log p(x), rises with K and converges to log p(x) as K → ∞ (Burda et al. 2016, arXiv 1509.00519). K = 1 is
    the bound itself, reported as well from the same trajectories. Trajectories are computed in float64, since float32
    loses steps of 10⁻⁴.

    Args:
        trajectories: K, at least 1.
        timesteps: T of the chain, required for a model with continuous time; null for the model's own.
        repeats: independent replicates of the K trajectories, at least 2.
        seed: of the draws, keyed by (seed, example, trajectory).
        examples: how many examples, from the start of the data set; null for all.
        rows: how many trajectories run together.
    """

    def __init__(
        self,
        trajectories: int,
        timesteps: int | None = None,
        repeats: int = 2,
        seed: int = 0,
        examples: int | None = None,
        rows: int = 512,
    ) -> None:
        if trajectories < 1:
            raise InvalidInput(f"trajectories, K of the importance-weighted bound, must be at least 1, got {trajectories}")
        super().__init__(examples, rows)
        at_most(trajectories=trajectories)
        self.trajectories, self.repeats, self.seed = int(trajectories), need_two(repeats), seed
        self.time = None if timesteps is None else DiscreteTime(timesteps)

    def check(self, model: VariationalModel) -> None:
        count_latents(self._timed(model))

    @torch.no_grad()
    def estimate(self, model: VariationalModel, data: Batch, progress: Progress) -> list[Result]:
        model = self._timed(model)
        dims, layers = event_dims(data.x), count_latents(model)
        log_w = self.log_weights(model, data, progress)
        facts = {"timesteps": layers, "seed": self.seed, "precision": str(log_w.dtype)}
        results = []
        for k in sorted({1, self.trajectories}):
            bound = bits_per_dim(-log_mean_exp(log_w.view(len(log_w), -1, k)), dims)
            name, label = f"importance_{k}_T{layers}", f"importance-weighted, K = {k}, T = {layers}"
            terms, calls = {"bits_per_dim": summarise(bound, independent=True)}, log_w.numel() * layers
            results.append(Result(name, label, terms, len(bound), bound.shape[1], calls, {"trajectories": k, **facts}))
        return results

    def _timed(self, model: VariationalModel) -> VariationalModel:
        """Return a diffusion model at the requested T, and any other model unchanged."""
        return model.at(self.time) if isinstance(model, DiffusionModel) and self.time is not None else model

    def log_weights(self, model: VariationalModel, data: Batch, progress: Progress) -> Tensor:
        """Return log w in nats of every trajectory of every example, (n, R·K).

        Raises:
            InvalidInput: continuous time.
        """
        paths, pieces, finished = self.repeats * self.trajectories, list(chunks(data, self.rows)), []
        for number, piece in enumerate(pieces):
            several, columns = max(1, self.rows // len(piece.x)), []
            x = piece.x.to(scalar_dtype(piece.x.device))
            for start in range(0, paths, several):
                path = range(start, min(start + several, paths))
                draws = StackedDraws([ExampleDraws(piece.index, self.seed, k) for k in path])
                condition = None if piece.condition is None else repeat_batch(piece.condition, len(path))
                columns.append(model.log_weight(repeat_batch(x, len(path)), draws, condition).view(len(path), len(x)).T)
                progress((number + path.stop / paths) / len(pieces))
            finished.append(torch.cat(columns, 1))
        return torch.cat(finished)


def count_latents(model: VariationalModel) -> int:
    """Return the number of latents T in a model's trajectories.

    Raises:
        InvalidInput: continuous time.
    """
    if isinstance(model, DiffusionModel):
        return model.discrete("the importance-weighted bound").timesteps
    return int(model.layers)  # type: ignore[arg-type]


def log_mean_exp(log_w: Tensor) -> Tensor:
    """Return log (1/K) Σ_k exp log_w_k over the last dimension."""
    return torch.logsumexp(log_w, -1) - math.log(log_w.shape[-1])
