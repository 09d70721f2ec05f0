"""Points of the plane drawn from a known density, so that a bound can be compared with log p(x) itself."""

from collections.abc import Mapping, Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.distributions import Distribution

from vdm.data.source import Rows, Source
from vdm.data.split import Split
from vdm.plots.images import density_picture, points_over_time

SEED = 20210701  # seed of the draws


class Toy(Source):
    """Independent draws from ``density``, float32, (N, 2); the same for every ``seed`` of the training order.

    Args:
        density: a distribution over the plane, such as those of ``vdm.data.densities``.
        sizes: number of points of each split.
    """

    name = "toy"

    def __init__(self, event_shape: Sequence[int], density: Distribution, sizes: Mapping[str, int]) -> None:
        super().__init__(event_shape)
        self.density = density
        self.release = f"{getattr(density, 'name', type(density).__name__)}, drawn here, seed {SEED}"
        self.sizes: Mapping[str, int] = dict(sizes)

    def load(self) -> dict[str, Split]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            return {name: Split(self.density.sample((size,)).float()) for name, size in self.sizes.items()}

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) of points (N, 2) in nats, (N,), in float64."""
        return self.density.log_prob(x.cpu().double())

    def picture(self, x: Tensor, levels: int | None = None) -> Image.Image:
        return density_picture(x, self.log_prob)

    def frames(self, rows: Rows, captions: Sequence[str], levels: int | None = None) -> Image.Image:
        return points_over_time(rows, captions, self.log_prob)
