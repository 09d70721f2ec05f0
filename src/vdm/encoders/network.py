"""DiffEnc's encoder: a network that takes over where there is noise."""

import torch
from torch import Tensor, nn

from vdm.encoders.base import MeanEncoder
from vdm.errors import InvalidInput
from vdm.gamma import align, sigma2


class NetworkEncoder(MeanEncoder):
    """f = x + σ² (tanh n(x, γ) − x): x where there is no noise, a network's output in (−1, 1) where there is nothing else.

    Nielsen et al. 2024, arXiv 2310.19789.

    Args:
        network: (x, γ, condition) ↦ n, one number a dimension, without dropout: f has to be a function.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if getattr(network, "outputs", 1) != 1 or getattr(network, "dropout", 0):
            raise InvalidInput("the encoder's network needs outputs=1 and dropout=0: its output is part of the density q")
        self.network = network

    def output(self, x_0: Tensor, gamma: Tensor) -> Tensor:
        """Return y = tanh n(x, γ), (B, *event), in x's dtype.

        Raises:
            InvalidInput: a γ for each dimension, of which the network would see the mean.
        """
        if gamma.ndim != 1:
            raise InvalidInput("a network as encoder needs one γ for all dimensions: use a schedule such as schedule=linear")
        dtype = next(self.parameters()).dtype
        return torch.tanh(self.network(x_0.to(dtype), gamma.to(dtype), None)).to(x_0.dtype)

    def forward(self, x_0: Tensor, gamma: Tensor) -> Tensor:
        return x_0 + align(sigma2(gamma), x_0) * (self.output(x_0, gamma) - x_0)
