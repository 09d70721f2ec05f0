"""Lossless compression of levels by a variational model, and its inverse."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vdm.bound import VariationalModel
from vdm.codec.batches import Progress, Spent
from vdm.codec.blocks import LARGEST_RAMP, BlockCoder, as_dtype
from vdm.codec.chain import Chain, diffusion_chain, latent_chain, measured_exponents, one_thread, prepared
from vdm.codec.container import Header, Writer, check_size, read
from vdm.codec.identity import check_model, machine, model_digest
from vdm.codec.spacing import Grid, LeastExcess, spaced_time
from vdm.codec.stack import WORD
from vdm.elbo import DiscreteTime
from vdm.errors import InvalidInput, at_least, at_most
from vdm.models import DiffusionModel
from vdm.models.latent import LatentModel

TIMESTEPS = 100
"""T for a model with continuous time, unless the caller says."""

CALIBRATION = 64
"""Images from which the bin widths of learned latents are measured."""


@dataclass(frozen=True)
class Settings:
    """How images are compressed.

    Attributes:
        timesteps: T of a diffusion model; None for its own, or 100 if it has continuous time.
        grid: where a diffusion model's latents lie.
        batch: the most images in one network call.
        ramp: a batch holds one image for each ``ramp`` images that are coded already, and at least one. None: as many as
            pay with their bits for the batch's first draws; 0: full batches at once, faster and with more initial bits.
        block: the most images on one stack.
    """

    timesteps: int | None = None
    grid: Grid = field(default_factory=LeastExcess)
    batch: int = 32
    ramp: int | None = None
    block: int = 4096

    def __post_init__(self) -> None:
        at_least(1, batch=self.batch, block=self.block)
        at_most(batch=self.batch, block=self.block)
        if self.ramp is not None:
            at_least(0, ramp=self.ramp)
            at_most(LARGEST_RAMP, ramp=self.ramp)


class Images(NamedTuple):
    """Images of a data set, as they are compressed.

    Attributes:
        x: (N, *event), integer levels.
        condition: (N, …) or None.
        names: of the images' files, one each, or none for an array.
        dtype: numpy's name of the type that the images are to come out as; that of x by default.
    """

    x: Tensor
    condition: Tensor | None = None
    names: Sequence[str] = ()
    dtype: str = ""

    def part(self, chosen: slice) -> "Images":
        condition = None if self.condition is None else self.condition[chosen]
        return self._replace(x=self.x[chosen], condition=condition, names=self.names[chosen])


class Decoded(NamedTuple):
    """Images of one block, (n, *event) in their own type, and their files' names, or none."""

    x: NDArray[Any]
    names: Sequence[str]


class Encoded(NamedTuple):
    """A file of images, and what they have cost.

    Attributes:
        content: the file's bytes.
        header: as it stands in the file.
        initial: bits with which the stacks began.
        spent: by image, (N,) each.
    """

    content: bytes
    header: Header
    initial: int
    spent: Spent


def encode(model: VariationalModel, images: Images, settings: Settings, progress: Progress = lambda share: None) -> Encoded:
    """Compress levels without loss.

    Raises:
        InvalidInput: a model without trajectories, or of real numbers; levels that it gives no probability; conditionals
            that are not finite; ``timesteps`` for a model with its own number of latents.
    """
    model.check(images.x)
    check_size(images.x.shape[1:], settings.batch)
    own, writer, initial, spent = prepared(model), Writer(), 0, []
    with one_thread():
        header = _header(model, own, images, settings)
        chain, parts = chain_of(own, header), [writer.header(header)]
        for start in range(0, len(images.x), header.block):
            chosen = images.part(slice(start, start + header.block))
            coder = BlockCoder(chain, header, start, chosen.condition, _portion(progress, header, start), settings.ramp)
            block, costs = coder.encode(chosen.x)
            conditions = None if chosen.condition is None else chosen.condition.cpu().numpy()
            parts.append(writer.block(block._replace(names=chosen.names, conditions=conditions)))
            spent.append(costs)
            initial += WORD * block.initial
    content = b"".join([*parts, writer.end()])
    return Encoded(content, header, initial, Spent(*(np.concatenate(column) for column in zip(*spent, strict=True))))


def decode(model: VariationalModel, content: bytes, progress: Progress = lambda share: None) -> Iterator[Decoded]:
    """Yield the images of a file, block by block, each block after all its checks.

    Raises:
        InvalidInput: a damaged file; another model; an image that is not what was compressed, by its number.
    """
    header, blocks = read(content)
    check_model(model, header)
    own, start = prepared(model), 0
    with one_thread():
        chain = chain_of(own, header)
    for block in blocks:
        condition = None if block.conditions is None else torch.from_numpy(block.conditions)
        with one_thread():
            coder = BlockCoder(chain, header, start, condition, _portion(progress, header, start))
            levels = coder.decode(block)
        yield Decoded(as_dtype(levels, header.shape, header.dtype), block.names)
        start += len(levels)


def chain_of(model: DiffusionModel | LatentModel, header: Header) -> Chain:
    """Return the chain of a prepared model that the header describes.

    Raises:
        InvalidInput: numbers in the header that do not fit the model.
    """
    if isinstance(model, DiffusionModel):
        return diffusion_chain(model, spaced_time(model.schedule, header.timesteps, header.spacing), header.shape)
    return latent_chain(model, header.widths)


def compress(
    model: VariationalModel,
    x: Tensor,
    condition: Tensor | None = None,
    *,
    timesteps: int | None = None,
    grid: Grid | None = None,
    batch: int = 32,
) -> bytes:
    """Compress levels x (N, *event) into the bytes of a file, without loss; see ``Settings`` for the arguments.

    Raises:
        InvalidInput: see ``encode``.
    """
    return encode(model, Images(x, condition), Settings(timesteps, grid or LeastExcess(), batch)).content


def decompress(model: VariationalModel, content: bytes) -> Tensor:
    """Return the levels (N, *event) that ``compress`` has made a file of, in their own dtype.

    Raises:
        InvalidInput: see ``decode``.
    """
    return torch.from_numpy(np.concatenate([block.x for block in decode(model, content)]))


def _header(model: VariationalModel, own: DiffusionModel | LatentModel, images: Images, settings: Settings) -> Header:
    """Return the header for ``images``: the digest is of ``model``, whose copy ``own`` is in float64."""
    timesteps, spacing, first = 0, "", images.part(slice(CALIBRATION))
    widths: tuple[int, ...] = ()
    if isinstance(own, DiffusionModel):
        default = own.time.timesteps if isinstance(own.time, DiscreteTime) else TIMESTEPS
        timesteps = default if settings.timesteps is None else settings.timesteps
        DiscreteTime(timesteps)  # refuses a wrong number
        spacing = settings.grid.density(own, first.x, first.condition)
    elif settings.timesteps is not None:
        raise InvalidInput(f"timesteps= is for diffusion models, and this is a {type(model).__name__}: leave it out")
    else:
        widths = tuple(measured_exponents(own, first.x, first.condition))
    return Header(
        model=model_digest(model),
        shape=tuple(images.x.shape[1:]),
        dtype=images.dtype or images.x[:1].cpu().numpy().dtype.str,
        images=len(images.x),
        batch=settings.batch,
        block=settings.block,
        timesteps=timesteps,
        spacing=spacing,
        widths=widths,
        **machine(),
    )


def _portion(progress: Progress, header: Header, start: int) -> Progress:
    """Report the progress of the block that begins with image ``start`` as a share of the whole."""
    images = min(header.block, header.images - start)
    return lambda share: progress((start + share * images) / header.images)
