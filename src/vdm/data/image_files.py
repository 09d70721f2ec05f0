"""Image files in a folder or a tar archive, decoded to levels."""

import hashlib
import os
import tarfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from vdm.buildable import buildable
from vdm.cpus import allowed_cpus
from vdm.data.decoded import stamp
from vdm.data.decoding import Fit, Unusable
from vdm.data.stored import BoundedFile
from vdm.errors import InvalidInput

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
LARGEST = 2**29  # bytes of a file; a picture of ``PIXELS`` pixels has fewer
TOO_LARGE = "of more than 512 MiB"
AT_ONCE = 1024  # images decoded per block


@buildable
def cropped(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize the largest centred part with the aspect ratio of ``size``."""
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)


@buildable
def stretched(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize the whole picture to ``size``, whatever its aspect ratio."""
    return image.resize(size, Image.Resampling.LANCZOS)


@buildable
def centre(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Crop the central pixels, without resizing; raise Unusable for a picture smaller than ``size``."""
    left, top = ((have - want) // 2 for have, want in zip(image.size, size, strict=True))
    if left < 0 or top < 0:
        raise Unusable("too small")
    return image.crop((left, top, left + size[0], top + size[1]))


@buildable
def as_stored(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the picture unchanged; raise Unusable for one of another size."""
    if image.size != size:
        raise Unusable("of another size")
    return image


def fit_name(fit: Fit) -> str:
    """Return the name of a fit for the record: with module and arguments unless it is defined here.

    A config gives a fit as a partial call.
    """
    call = fit if isinstance(fit, partial) else partial(fit)
    name = getattr(call.func, "__qualname__", repr(call.func))
    module = getattr(call.func, "__module__", __name__)
    arguments = ", ".join([*map(repr, call.args), *(f"{key}={value!r}" for key, value in call.keywords.items())])
    return (name if module == __name__ else f"{module}.{name}") + (f"({arguments})" if arguments else "")


class ImageFiles(ABC):
    """Image files by name."""

    names: list[str]  # sorted

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return the content of one file; thread-safe."""

    @abstractmethod
    def stamps(self) -> Any:
        """Return plain values that change with the files, without reading them."""

    def decoded(
        self, names: Sequence[str], decode: Callable[[bytes], np.ndarray]
    ) -> Iterator[list[tuple[str, np.ndarray | Unusable]]]:
        """Yield the images of ``names`` in order, ``AT_ONCE`` at a time: each an array, or the reason why it is left out."""

        def one(name: str) -> tuple[str, np.ndarray | Unusable]:
            try:
                return name, decode(self.read(name))
            except Unusable as reason:
                return name, reason
            except PermissionError:
                return name, Unusable("unreadable")
            except OSError as error:  # may be temporary, while leaving it out would be for good
                raise InvalidInput(
                    f"{name} cannot be read ({error.strerror or error}): repair that, then try again"
                ) from error

        with ThreadPoolExecutor(allowed_cpus()) as pool, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's, on odd files: they are decoded or counted
            for first in range(0, len(names), AT_ONCE):
                yield list(pool.map(one, names[first : first + AT_ONCE]))


class Folder(ImageFiles):
    """Image files below ``root`` by their endings, hidden ones left out; names are paths from ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names = sorted(_visible(root))

    def read(self, name: str) -> bytes:
        path = self.root / name
        try:
            status = os.stat(path)
            if not S_ISREG(status.st_mode):  # reading a pipe would block
                raise Unusable("unreadable")
            if status.st_size > LARGEST:
                raise Unusable(TOO_LARGE)
        except FileNotFoundError as error:
            if not path.is_symlink():  # it was there a moment ago
                raise
            raise Unusable("unreadable") from error
        return path.read_bytes()

    def stamps(self) -> Any:
        digest = hashlib.sha256()
        for name in self.names:
            digest.update(os.fsencode(f"{name} {stamp(self.root / name)}\n"))
        return digest.hexdigest()


def _visible(root: Path) -> Iterator[str]:
    """Yield image files, also through links to folders; a folder met twice would be trained on and tested on."""
    met: dict[str, str] = {}
    for path, folders, files in os.walk(root, onerror=_not_listed, followlinks=True):
        folders[:] = [folder for folder in folders if not folder.startswith(".") and folder != "lost+found"]
        twin = met.setdefault(os.path.realpath(path), path)
        if twin != path:
            raise InvalidInput(f"{path} and {twin} are one folder: remove the link, so that its images count once")
        start = Path(path).relative_to(root)
        yield from (
            (start / file).as_posix() for file in files if file.lower().endswith(ENDINGS) and not file.startswith(".")
        )


def _not_listed(error: OSError) -> None:
    raise InvalidInput(f"{error.filename} cannot be listed ({error.strerror}): make it readable, or remove it") from error


class Archive(ImageFiles):
    """Image files in an uncompressed tar archive, by their names without folders; sparse files are left out.

    Raises:
        InvalidInput: a file of another format, or cut short.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with BoundedFile(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
                self.places = {
                    PurePosixPath(member.name).name: (member.offset_data, member.size)
                    for member in archive
                    if member.isfile() and not member.issparse() and member.name.lower().endswith(ENDINGS)
                }
        except (tarfile.TarError, OSError, EOFError) as error:
            raise InvalidInput(f"{path} cannot be read as a tar archive ({error}): fetch it again") from error
        self.names = sorted(self.places)

    def read(self, name: str) -> bytes:
        offset, size = self.places[name]
        if size > LARGEST:
            raise Unusable(TOO_LARGE)
        with self.path.open("rb") as file:
            return os.pread(file.fileno(), size, offset)

    def stamps(self) -> Any:
        return stamp(self.path)


def by_key(names: Sequence[str], seed: int) -> list[str]:
    """Sort ``names`` by the SHA-256 of seed and name: adding a name does not change the order of the others."""
    return sorted(names, key=lambda name: hashlib.sha256(os.fsencode(f"{seed}/{name}")).digest())
