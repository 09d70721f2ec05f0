"""The importance-weighted bound on whole trajectories."""

import math

import torch
from torch import Tensor

from vdm.batch import Batch, chunks, repeat_batch
from vdm.bound import VariationalModel
from vdm.draws import ExampleDraws, StackedDraws, scalar_dtype
from vdm.elbo import DiscreteTime
from vdm.errors import InvalidInput, at_most
from vdm.evaluation.estimator import Estimator, Progress, Result, from_independent, need_two
from vdm.gamma import event_dims
from vdm.models import DiffusionModel
from vdm.terms import bits_per_dim


class ImportanceWeighted(Estimator):
    """E log (1/K) Σ_k w_k, with log w_k the log-ratio (1.32) on the k-th of K independent whole trajectories.

    At most log p(x), rises with K and meets it as K → ∞ (Burda et al. 2016); K = 1 is the bound itself, and is reported
    beside from the same trajectories. Trajectories are made in float64: steps of 10⁻⁴ are lost in float32.

    Args:
        trajectories: K, at least 1.
        timesteps: T of the chain, for a model with continuous time; null takes the model's own.
        repeats: independent replicates of the K trajectories, at least 2.
        seed: of the draws, keyed by (seed, example, trajectory).
        examples: how many examples, from the start of the data set; null for all.
        rows: how many trajectories run side by side.
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
            raise InvalidInput(f"trajectories is the K of the importance-weighted bound, at least 1, got {trajectories}")
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
        facts = {"trajectories": self.trajectories, "timesteps": layers, "seed": self.seed, "precision": str(log_w.dtype)}
        results = []
        for k in sorted({1, self.trajectories}):
            bound = bits_per_dim(-log_mean_exp(log_w.view(len(log_w), -1, k)), dims)
            results.append(
                Result(
                    name=f"importance_{k}_T{layers}",
                    label=f"importance-weighted, K = {k}, T = {layers}",
                    terms={"bits_per_dim": from_independent(bound)},
                    examples=len(bound),
                    draws=bound.shape[1],
                    calls=log_w.numel() * layers,
                    facts={**facts, "trajectories": k},
                )
            )
        return results

    def _timed(self, model: VariationalModel) -> VariationalModel:
        """A diffusion model at the T that was asked for."""
        return model.at(self.time) if isinstance(model, DiffusionModel) and self.time is not None else model

    def log_weights(self, model: VariationalModel, data: Batch, progress: Progress) -> Tensor:
        """(n, R·K), log w in nats of every trajectory of every example.

        Raises:
            InvalidInput: continuous time.
        """
        paths = self.repeats * self.trajectories
        pieces = list(chunks(data, self.rows))
        finished = []
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
    """T of a model's trajectories.

    Raises:
        InvalidInput: continuous time.
    """
    chain = model.as_mhvae() if isinstance(model, DiffusionModel) else model
    return int(chain.layers)  # type: ignore[arg-type]


def log_mean_exp(log_w: Tensor) -> Tensor:
    """log (1/K) Σ_k exp log_w_k over the last dimension."""
    return torch.logsumexp(log_w, -1) - math.log(log_w.shape[-1])
