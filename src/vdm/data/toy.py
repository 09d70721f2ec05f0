"""Points of the plane drawn from a known density: what a bound says can be held against log p(x) itself."""

from collections.abc import Mapping

import torch
from PIL import Image
from torch import Tensor
from torch.distributions import Distribution

from vdm.data.base import InMemoryData
from vdm.data.split import Split
from vdm.plots.images import density_picture
from vdm.terms import bits_per_dim

SEED = 20210701
"""Of the draws."""


class Toy(InMemoryData):
    """Independent draws from ``density``, float32, (N, 2); the same for every ``seed`` of the training order.

    Args:
        density: a distribution over the plane, such as those of ``vdm.data.densities``.
        sizes: number of points in each of the splits train, val and test.
    """

    name = "toy"

    def __init__(
        self,
        event_shape: tuple[int, ...],
        batch_size: int,
        eval_batch_size: int,
        density: Distribution,
        sizes: Mapping[str, int],
        seed: int = 0,
        workers: int = 0,
        device: str | None = None,
    ) -> None:
        super().__init__(event_shape, batch_size, eval_batch_size, seed, workers, device)
        self.density = density
        self.release = f"{getattr(density, 'name', type(density).__name__)}, drawn here, seed {SEED}"
        self.sizes = dict(sizes)

    def load(self) -> dict[str, Split]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            return {name: Split(self.density.sample((size,)).float()) for name, size in self.sizes.items()}

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) of points (N, 2), (N,) in nats, in float64."""
        return self.density.log_prob(x.cpu().double())

    def entropy(self, split: str) -> tuple[float, float]:
        """(mean of −log p over a split, its standard error), in bits/dim: what no model's bound can better on average."""
        bits = bits_per_dim(-self.log_prob(self.splits()[split].x), 2)
        return bits.mean().item(), (bits.std() / len(bits) ** 0.5).item()

    def provenance(self) -> dict[str, object]:
        """As for every data set, and −log p of the test points in bits/dim, to hold the bound against."""
        return {**super().provenance(), "test_minus_log_prob_bits_per_dim": self.entropy("test")[0]}

    def picture(self, x: Tensor) -> Image.Image:
        return density_picture(x, self.log_prob)
