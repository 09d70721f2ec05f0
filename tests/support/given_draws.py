"""Draws whose numbers a test hands in."""

from collections.abc import Mapping

import torch
from torch import Tensor

from vdm.draws import AbstractDraws
from vdm.errors import InvalidInput


class GivenDraws(AbstractDraws):
    """Hands out given tensors by name: ``GivenDraws({"t": t, "x_t": eps, "x_1": eps_1})``.

    Raises:
        InvalidInput: a name that was not given, or a shape that is not the one asked for.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = dict(tensors)

    def normal(self, name: str, like: Tensor) -> Tensor:
        return self._given(name, like.shape).to(like)

    def uniform(self, name: str, like: Tensor) -> Tensor:
        return self._given(name, like.shape[:1]).to(like.device)

    stratified = uniform

    def _given(self, name: str, shape: torch.Size) -> Tensor:
        if name not in self.tensors:
            raise InvalidInput(f"no draw named {name!r} was given; given are: {', '.join(sorted(self.tensors))}")
        tensor = self.tensors[name]
        if tensor.shape != shape:
            raise InvalidInput(f"draw {name!r} has shape {tuple(tensor.shape)}, but {tuple(shape)} was asked for")
        return tensor
