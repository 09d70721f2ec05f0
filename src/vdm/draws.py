"""Named random draws: the only source of randomness in the package.

A draw is a pure function of its key, so the same key gives the same numbers. Estimators can be compared path by path, a
resumed run repeats the draws of an uninterrupted one, and N processes draw the same as one.

Names in use: ``t`` (the time of a one-t estimate), ``x_1`` (noise of the reconstruction term), ``x_t`` (noise of a
one-t estimate), ``x_2`` … ``x_T`` (noise of latent number i), ``prior`` and ``step_1`` … (sampling), ``decode``, ``probe``
(a random direction) and ``dequantise``.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vdm.errors import InvalidInput

GOLDEN = 0.6180339887498949
"""Step of the additive recurrence frac(i·φ): consecutive indices are spread evenly over [0, 1)."""


def _seed(*key: int | str) -> int:
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 1


def _stream(*key: int | str, device: torch.device | None = None) -> torch.Generator:
    return torch.Generator(device or "cpu").manual_seed(_seed(*key))


def scalar_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype of times and of γ: float64, or float32 on devices without float64 (Apple's)."""
    return torch.float32 if device.type == "mps" else torch.float64


def fresh_seed() -> int:
    """Draw a seed from torch's global generator, so that ``torch.manual_seed`` determines a call without ``draws``."""
    return int(torch.randint(2**62, ()).item())


class AbstractDraws(ABC):
    """Named uniforms and normals."""

    @abstractmethod
    def normal(self, name: str, like: Tensor) -> Tensor:
        """Draw standard normals with the shape, dtype and device of ``like``."""

    @abstractmethod
    def uniform(self, name: str, like: Tensor) -> Tensor:
        """Draw independent U[0, 1) for the rows of ``like``, (B,) in float64."""

    @abstractmethod
    def stratified(self, name: str, like: Tensor) -> Tensor:
        """Draw U[0, 1) for the rows of ``like``, spread evenly over the global batch, (B,); each is uniform by itself.

        The value of row i is (u_0 + p_i) mod 1, with one shared offset u_0 and fixed, evenly spread p_i.
        """


class Draws(AbstractDraws):
    """One stream for the whole batch, keyed by (seed, step, rank, name): for training and for single estimates.

    Args:
        seed: the experiment's seed.
        step: number of the optimiser step.
        rank: of the process; ranks draw different noise and share the offset of the stratification.
        world_size: number of processes, with equal local batches.
    """

    def __init__(self, seed: int = 0, step: int = 0, rank: int = 0, world_size: int = 1) -> None:
        self.seed, self.step, self.rank, self.world_size = seed, step, rank, world_size

    def seed_torch(self) -> None:
        """Seed torch's global generators for this step and rank, since dropout draws from them."""
        torch.manual_seed(_seed(self.seed, self.step, self.rank, "torch"))

    def normal(self, name: str, like: Tensor) -> Tensor:
        stream = _stream(self.seed, self.step, self.rank, name, device=like.device)
        return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=stream)

    def uniform(self, name: str, like: Tensor) -> Tensor:
        stream = _stream(self.seed, self.step, self.rank, name, device=like.device)
        return torch.rand(len(like), dtype=scalar_dtype(like.device), device=like.device, generator=stream)

    def stratified(self, name: str, like: Tensor) -> Tensor:
        stream = _stream(self.seed, self.step, name, "offset", device=like.device)
        offset = torch.rand((), dtype=scalar_dtype(like.device), device=like.device, generator=stream)
        rows = torch.arange(len(like), dtype=scalar_dtype(like.device), device=like.device)
        return (offset + (rows + self.rank * len(like)) / (self.world_size * len(like))) % 1


class ExampleDraws(AbstractDraws):
    """One stream a row, keyed by (seed, repeat, index, name), the index in the data set or among the samples to draw.

    A row's draws depend neither on its batch, nor on the number of processes, nor on the device.

    Args:
        index: (B,) integers, each row's index in the data set.
        seed: the evaluation's seed.
        repeat: number of the replicate; replicates are independent.
    """

    def __init__(self, index: Tensor, seed: int = 0, repeat: int = 0) -> None:
        self.index, self.seed, self.repeat = index.tolist(), seed, repeat

    def normal(self, name: str, like: Tensor) -> Tensor:
        self._check(like)
        rows = torch.empty(like.shape, dtype=like.dtype)
        for row, i in zip(rows, self.index, strict=True):
            row.normal_(generator=_stream(self.seed, self.repeat, i, name))
        return rows.to(like.device)

    def uniform(self, name: str, like: Tensor) -> Tensor:
        self._check(like)
        dtype = scalar_dtype(like.device)
        rows = [torch.rand((), dtype=dtype, generator=_stream(self.seed, self.repeat, i, name)) for i in self.index]
        return torch.stack(rows).to(like.device)

    def stratified(self, name: str, like: Tensor) -> Tensor:
        self._check(like)
        dtype = scalar_dtype(like.device)
        offset = torch.rand((), dtype=dtype, generator=_stream(self.seed, self.repeat, name, "offset"))
        return ((offset + torch.tensor(self.index, dtype=dtype) * GOLDEN) % 1).to(like.device)

    def _check(self, like: Tensor) -> None:
        if len(like) != len(self.index):
            raise InvalidInput(f"draws for {len(self.index)} examples were asked for {len(like)} rows: pass one index a row")


class StackedDraws(AbstractDraws):
    """Draws for several equal blocks of rows, the j-th of ``parts`` for the j-th block.

    Replicates of a batch can then run side by side with the draws that they have one by one.
    """

    def __init__(self, parts: Sequence[AbstractDraws]) -> None:
        self.parts = tuple(parts)

    def normal(self, name: str, like: Tensor) -> Tensor:
        return torch.cat([part.normal(name, block) for part, block in self._blocks(like)])

    def uniform(self, name: str, like: Tensor) -> Tensor:
        return torch.cat([part.uniform(name, block) for part, block in self._blocks(like)])

    def stratified(self, name: str, like: Tensor) -> Tensor:
        return torch.cat([part.stratified(name, block) for part, block in self._blocks(like)])

    def _blocks(self, like: Tensor) -> Iterator[tuple[AbstractDraws, Tensor]]:
        return zip(self.parts, like.chunk(len(self.parts)), strict=True)
