"""A picture, as a file's content or as Pillow opened it, decoded to integer levels."""

from collections.abc import Callable
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
FRAMED = ("PNG", "GIF", "WEBP", "TIFF")  # formats of several frames or pages; a camera's JPEG may hold previews besides
MODES = ("1", "L", "P", "RGB", "CMYK", "YCbCr")  # modes of at most 8 bits a channel, without transparency
ALPHA = ("RGBA", "LA", "PA")  # modes with transparency
PIXELS = 100_000_000  # most pixels of a picture; a larger one, even of a small file, may fill the memory
SPREAD = (2, 4, 16)  # numbers of levels that a file of 1, 2 or 4 bits spreads over 0 … 255
TOO_MANY = "of too many pixels"
DEEP = "of more than 8 bits a channel"
Fit = Callable[[Image.Image, tuple[int, int]], Image.Image]  # from a picture of any size to one of (width, height)


class Unusable(Exception):
    """The reason, in a few words, why an image is left out."""


class Decoding(NamedTuple):
    """How pictures become levels.

    A picture of K < 256 levels holds 0 … K − 1 as they are, or, for K = 2, 4 and 16, spread evenly over 0 … 255, as files of
    one, two and four bits are opened. K > 256 takes grey pictures of 16 bits, as they are.

    Attributes:
        shape: (C, H, W) of the result, with C = 1 or 3.
        fit: how a picture gets its size.
        levels: K.
        seen: filled with ``plain`` and ``spread`` as pictures are decoded; one data set may have one of them.
    """

    shape: tuple[int, ...]
    fit: Fit
    levels: int
    seen: set[str]

    def content(self, content: bytes) -> np.ndarray:
        """Return the levels of an image file, (C, H, W), uint8 or for K > 256 uint16, in its EXIF orientation.

        Raises:
            Unusable: a broken file, several frames, more than ``PIXELS``, transparency, or other levels than K.
        """
        try:
            opened = Image.open(BytesIO(content), formats=FORMATS)
            if opened.width * opened.height > PIXELS:
                raise Unusable(TOO_MANY)
            if opened.format in FRAMED and _has_second_frame(content):
                raise Unusable("of several frames or pages")
            deep = more_than_8_bits(opened)
            image = ImageOps.exif_transpose(opened)
        except Image.DecompressionBombError as error:
            raise Unusable(TOO_MANY) from error
        except Unusable:
            raise
        except Exception as error:  # a broken file may raise anything
            raise Unusable("truncated, or no image") from error
        return self.picture(image, deep)

    def picture(self, image: Image.Image, deep: bool = False) -> np.ndarray:
        """Return the levels of an opened picture; ``deep`` says that Pillow has cut it to 8 bits a channel."""
        if image.mode.startswith("I"):
            return self._deep(image)
        if image.mode not in MODES + ALPHA:
            raise Unusable("of real numbers" if image.mode == "F" else f"of mode {image.mode}")
        if deep:
            raise Unusable(DEEP if self.levels <= 256 else "of 16 bits in colour or with transparency")
        if self.levels > 256:
            raise Unusable("of 8 bits a channel, not 16")
        alpha = image.mode in ALPHA or "transparency" in image.info
        if alpha and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
            raise Unusable("transparent")
        channels, height, width = self.shape
        shown = image.convert("L" if channels == 1 else "RGB")
        fitted = np.asarray(self.fit(shown, (width, height)), dtype=np.uint8)
        return self._own_levels(np.asarray(shown), fitted).reshape(height, width, channels).transpose(2, 0, 1)

    def _deep(self, image: Image.Image) -> np.ndarray:
        """Return the levels of a grey picture of 16 bits."""
        if self.levels <= 256:
            raise Unusable(DEEP)
        if "transparency" in image.info:
            raise Unusable("transparent")
        _, height, width = self.shape
        shown = image.convert("I")
        pixels = np.asarray(shown)
        if pixels.min() < 0 or pixels.max() >= self.levels:
            raise Unusable(f"of more than {self.levels} levels")
        fitted = np.asarray(self.fit(shown, (width, height))).clip(0, self.levels - 1)
        return fitted.astype(np.uint16).reshape(1, height, width)

    def _own_levels(self, shown: np.ndarray, fitted: np.ndarray) -> np.ndarray:
        """Return levels 0 … K − 1 from the pixels of a picture before and after it got its size."""
        if self.levels == 256:
            return fitted
        high, step = int(shown.max()), 255 // (self.levels - 1)
        if high < self.levels:
            self.seen.update(["plain"] if high else [])
            return np.minimum(fitted, self.levels - 1)
        if self.levels in SPREAD and not (shown % step).any():
            self.seen.add("spread")
            return ((fitted.astype(np.uint16) + step // 2) // step).astype(np.uint8)
        raise Unusable(f"of more than {self.levels} levels")


def _has_second_frame(content: bytes) -> bool:
    try:
        Image.open(BytesIO(content), formats=FORMATS).seek(1)
    except EOFError:
        return False
    return True


def more_than_8_bits(opened: Image.Image) -> bool:
    """Return whether a colour image, whose pixels are not read yet, has more bits than Pillow would keep."""
    encodings = [tile[3] for tile in getattr(opened, "tile", ())]
    if opened.format == "PPM":
        return any(isinstance(each, tuple) and each[1] > 255 for each in encodings)
    return opened.format in ("PNG", "TIFF") and ";16" in str(encodings)
