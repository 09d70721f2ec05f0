"""Networks that sum up an example in a few numbers, x ↦ (B, features), for auxiliary latents."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from vdm.networks.blocks import zero_init
from vdm.networks.embedding import ConditionEmbedding
from vdm.networks.fusion import FusionMLP
from vdm.networks.vdm_unet import VDMUNet, official_norm


class MLPSummary(nn.Module):
    """A linear map and a residual multi-layer perceptron of the flattened example; zero at first.

    Args:
        event_shape: the shape of one example.
        features: numbers of the summary.
        hidden, blocks: width and number of residual blocks.
    """

    def __init__(self, event_shape: Sequence[int], features: int, hidden: int = 128, blocks: int = 1) -> None:
        super().__init__()
        self.network = FusionMLP([event_shape], (features,), 1, hidden, blocks)
        zero_init(self.network.linear)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)[0]


@dataclass(eq=False, repr=False)
class VDMUNetSummary(VDMUNet):
    """The official VDM's network without its way up: MuLAN's encoder (Sahoo et al. 2024, arXiv 2312.13236).

    After the middle a 3×3 convolution to one channel and a linear map of its pixels, which is zero at first. Arguments as
    for ``VDMUNet``; γ enters as γ_min.

    Args:
        features: numbers of the summary.
    """

    features: int = 1

    def __post_init__(self, condition: ConditionEmbedding | None) -> None:
        super().__post_init__(condition)
        _, height, width = self.event_shape
        self.up = nn.ModuleList()
        self.last = nn.Sequential(official_norm(self.channels), nn.SiLU(), nn.Conv2d(self.channels, 1, 3, padding=1))
        self.dense = zero_init(nn.Linear(height * width, self.features))

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        level = self.embedding(x.new_full((len(x),), self.gamma_min))
        return self.dense(F.silu(self.last(self.trunk(self.stem(x), level)).flatten(1)))
