"""The file of compressed images: its bytes, and the checks on them.

==============  =================================================================
bytes           content
==============  =================================================================
4               ``vdmc``
2               version of the format
4               length of the header
…               header: the fields of :class:`Header`, as a list in JSON
blocks          one after the other, :class:`Block`
16              BLAKE2b of all bytes before it
==============  =================================================================

Numbers are little-endian. The last sixteen bytes are checked before anything else is read, and every length against the
size of the file before memory is asked for.
"""

import hashlib
import io
import json
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vdm.codec.stack import Words, read_words
from vdm.data.npy import array_of
from vdm.errors import InvalidInput, at_most

MAGIC, FORMAT, DIGEST = b"vdmc", 1, 16

LARGEST = 2**28
"""Numbers in one batch: a header with more is refused before memory is asked for."""

NAME, CONDITION = 2**15, 2**16
"""Most bytes for the name and for the condition of one image."""

FRONT, BLOCK = struct.Struct("<4sHI"), struct.Struct("<IIIIIBH")


class Header(NamedTuple):
    """Everything that a decoder has to know besides the model; the order of the fields is part of the format.

    Attributes:
        model: first 16 hexadecimal digits of ``model_digest``.
        shape, dtype: of an image, and numpy's name of the array's type.
        images: how many there are.
        batch: the most images in a network call.
        block: images in a block, at most.
        timesteps: T of a diffusion model; 0 for other models.
        spacing: density over γ of a diffusion model's latents; see ``vdm.codec.spacing.Density``.
        widths: exponents of the bin widths of learned latents; none for a diffusion model.
        torch, constriction, cpu: versions of the libraries, and the CPU's capability, that computed the code.
    """

    model: str
    shape: tuple[int, ...]
    dtype: str
    images: int
    batch: int
    block: int
    timesteps: int
    spacing: str
    widths: tuple[int, ...]
    torch: str
    constriction: str
    cpu: str


class Block(NamedTuple):
    """Images that are decoded from one stack.

    Attributes:
        initial: words with which the stack began.
        slack: factor of the words that were kept ready for draws.
        ramp: images coded before a batch held one more; see ``vdm.codec.blocks.batch_size``.
        words: the stack.
        checksums: one byte an image.
        names: of the images' files; empty for an array.
        conditions: (n, …), or None.
    """

    initial: int
    slack: int
    ramp: int
    words: Words
    checksums: bytes
    names: Sequence[str] = ()
    conditions: NDArray[Any] | None = None


def check_size(shape: Sequence[int], batch: int) -> None:
    """Raise InvalidInput for batches of images that are too large for memory."""
    if math.prod(shape) * batch > LARGEST:
        raise InvalidInput(
            f"{batch} images of shape {tuple(shape)} in a network call are too many: use a smaller batch_size"
        )


def checksum(levels: NDArray[np.int64]) -> int:
    """Return a byte that depends on every level of an image."""
    return zlib.crc32(levels.astype("<i8").tobytes()) & 0xFF


class Writer:
    """Bytes of a file, part by part, and their digest."""

    def __init__(self) -> None:
        self.digest = hashlib.blake2b(digest_size=DIGEST)

    def header(self, header: Header) -> bytes:
        content = json.dumps(list(header), separators=(",", ":")).encode()
        return self._add(FRONT.pack(MAGIC, FORMAT, len(content)) + content)

    def block(self, block: Block) -> bytes:
        names = zlib.compress(json.dumps([*block.names]).encode(), 9) if block.names else b""
        conditions = b"" if block.conditions is None else zlib.compress(_saved(block.conditions), 9)
        if block.conditions is not None:
            at_most(CONDITION // 2, **{"bytes of an image's condition": block.conditions.nbytes // len(block.conditions)})
        lengths = len(block.checksums), block.initial, len(block.words), len(names), len(conditions)
        front = BLOCK.pack(*lengths, block.slack, block.ramp)
        return self._add(front + names + conditions + block.checksums + block.words.astype("<u4").tobytes())

    def end(self) -> bytes:
        return self.digest.digest()

    def _add(self, content: bytes) -> bytes:
        self.digest.update(content)
        return content


def read(content: bytes) -> tuple[Header, Iterator[Block]]:
    """Return the header, and an iterator over the blocks, of a file's bytes.

    Raises:
        InvalidInput: bytes of another format, or that were changed or cut short; the iterator raises
            it as well, for a block that does not fit the header.
    """
    if content[:4] != MAGIC or len(content) < FRONT.size + DIGEST:
        raise InvalidInput("it is not a file of vdm-compress: name one that ends in .vdm")
    _, version, length = FRONT.unpack_from(content)
    if version != FORMAT:
        raise InvalidInput(f"it has format {version}, and this version reads {FORMAT}: use a matching vdm, or it is damaged")
    body = memoryview(content)[:-DIGEST]
    if hashlib.blake2b(body, digest_size=DIGEST).digest() != content[-DIGEST:]:
        raise InvalidInput("it was changed or cut short (its checksum differs): get it again")
    if length > len(body) - FRONT.size:
        raise InvalidInput("its header is longer than the file: compress the images again")
    header = _header(bytes(body[FRONT.size : FRONT.size + length]))
    if header.images > len(content):
        raise InvalidInput(f"its header names {header.images} images, more than the file has bytes: compress them again")
    return header, _blocks(header, body[FRONT.size + length :])


def _header(content: bytes) -> Header:
    try:
        header = Header(*json.loads(content))
        header = header._replace(shape=tuple(header.shape), widths=tuple(header.widths))
        counts = [header.images, header.batch, header.block, *header.shape]
        numbers = [*counts, header.timesteps, *header.widths]
        texts = [header.spacing, header.model, header.dtype, header.torch, header.constriction, header.cpu]
        fits = all(type(n) is int and abs(n) < 2**31 for n in numbers) and all(type(text) is str for text in texts)
        fits = fits and not set(header.spacing) - set("0123456789abcdef")
        if not fits or min(counts) < 1 or header.timesteps < 0 or np.dtype(header.dtype).kind not in "iuf":
            raise ValueError("a value out of its range")
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput("its header is not what vdm-compress writes: compress the images again") from error
    check_size(header.shape, header.batch)
    return header


def _blocks(header: Header, content: memoryview) -> Iterator[Block]:
    left = header.images
    while left:
        expected = min(header.block, left)
        if len(content) < BLOCK.size:
            raise InvalidInput(f"{left} of its images are missing: compress them again")
        images, initial, words, names, conditions, slack, ramp = BLOCK.unpack_from(content)
        size = BLOCK.size + names + conditions + images + 4 * words
        if images != expected or size > len(content) or initial > words + 1:
            raise InvalidInput("the lengths in it do not fit together: compress the images again")
        parts, start = [], BLOCK.size
        for length in (names, conditions, images, 4 * words):
            parts.append(bytes(content[start : start + length]))
            start += length
        named, given = _names(parts[0], images), _conditions(parts[1], images)
        yield Block(initial, slack, ramp, read_words(parts[3]), parts[2], named, given)
        left, content = left - images, content[size:]
    if len(content):
        raise InvalidInput("there is more in it than its images: compress them again")


def _names(content: bytes, images: int) -> Sequence[str]:
    try:
        names = json.loads(_inflated(content, images * NAME)) if content else []
        if len(names) not in (0, images) or not all(isinstance(name, str) for name in names):
            raise ValueError("one name an image")
    except (ValueError, zlib.error, TypeError, RecursionError) as error:
        raise InvalidInput("its images' names cannot be read: compress them again") from error
    return tuple(names)


def _inflated(content: bytes, most: int) -> bytes:
    """Return what zlib has compressed; raise ValueError if that is above ``most`` bytes, without holding more of it."""
    inflating = zlib.decompressobj()
    found = inflating.decompress(content, most)
    if not inflating.eof or inflating.unused_data:
        raise ValueError(f"more than {most} bytes, or not what zlib wrote")
    return found


def _conditions(content: bytes, images: int) -> NDArray[Any] | None:
    if not content:
        return None
    try:
        found = array_of(_inflated(content, images * CONDITION))
        if len(found) != images or found.dtype.kind not in "iuf":
            raise ValueError("one condition an image")
    except (ValueError, zlib.error, TypeError, EOFError, OSError) as error:
        raise InvalidInput("its conditions cannot be read: compress the images again") from error
    return found


def _saved(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
