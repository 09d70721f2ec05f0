"""Images to compress from an array or a folder of files, and the same images as an array or files again."""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image

from vdm.codec.codec import Decoded, Images
from vdm.data.decoding import Decoding, Unusable
from vdm.data.image_files import Folder, as_stored
from vdm.data.npy import array_of
from vdm.errors import InvalidInput
from vdm.runs.bounds import check_file
from vdm.runs.files import write_error_message

ARRAY = "images.npy"


def read_images(path: Path, event_shape: Sequence[int]) -> Images:
    """Return the images of an array (N, *event_shape) of integers in a .npy file, or of a folder of image files.

    Raises:
        InvalidInput: no such file or folder; images of another shape, or that cannot be read exactly.
    """
    if path.is_dir():
        return _read_folder(path, tuple(event_shape))
    try:
        check_file(path)
        array = array_of(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} is neither a folder of images nor an array in a .npy file: name one") from error
    if array.shape[1:] != tuple(event_shape) or not len(array):
        raise InvalidInput(f"{path} holds {array.shape}, and the model's images are (N, {', '.join(map(str, event_shape))})")
    if array.dtype.kind not in "iu":
        raise InvalidInput(f"{path} holds {array.dtype}, and only integer levels can be compressed: convert them")
    plain = np.uint8 if array.dtype == np.uint8 else np.int64
    return Images(torch.from_numpy(array.astype(plain)), dtype=array.dtype.str)


def _read_folder(path: Path, event_shape: tuple[int, ...]) -> Images:
    if len(event_shape) != 3 or event_shape[0] not in (1, 3):
        raise InvalidInput(f"the model's examples have shape {event_shape}, not an image's: give an array in a .npy file")
    folder, arrays, names = Folder(path), [], []
    for found in folder.decoded(folder.names, Decoding(event_shape, as_stored, 256, set()).content):
        for name, image in found:
            if isinstance(image, Unusable):
                raise InvalidInput(f"{path / name} is {image}: leave it out")
            arrays.append(image)
            names.append(name)
    if not names:
        raise InvalidInput(f"{path} holds no images: name another folder")
    return Images(torch.from_numpy(np.stack(arrays)), None, png_names(names))


def png_names(names: Sequence[str]) -> list[str]:
    """Return names that end in .png, different ones for different files."""
    plain = [str(PurePosixPath(name).with_suffix(".png")) for name in names]
    return plain if len(set(plain)) == len(plain) else [f"{name}.png" for name in names]


def check_new(folder: Path) -> None:
    """Raise InvalidInput if ``folder`` is a file, or a folder with anything in it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput(f"{folder} is not empty: name a new folder")


def write_images(folder: Path, blocks: Iterable[Decoded], images: int) -> Path:
    """Write decoded images into a new folder and return the folder, or the file of their array in it.

    They are written beside the folder and moved to it at the end, so that nothing is there if a block is refused.

    Raises:
        InvalidInput: a folder that is not empty, or that cannot be written; names that are not paths below it; whatever
            ``blocks`` raises.
    """
    check_new(folder)
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
        part.mkdir(parents=True)
        is_array = _write(part, blocks, images)
        if folder.exists():
            folder.rmdir()
        os.rename(part, folder)
    except OSError as error:
        raise InvalidInput(write_error_message(folder, error)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder / ARRAY if is_array else folder


def _write(part: Path, blocks: Iterable[Decoded], images: int) -> bool:
    """Write all blocks and return whether they are an array."""
    array, start = None, 0
    for block in blocks:
        if block.names:
            for name, image in zip(block.names, block.x, strict=True):
                path = part / _safe(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                picture(image).save(path)
        else:
            if array is None:
                shape = (images, *block.x.shape[1:])
                array = np.lib.format.open_memmap(part / ARRAY, "w+", block.x.dtype, shape)
            array[start : start + len(block.x)] = block.x
        start += len(block.x)
    if array is not None:
        array.flush()
    return array is not None


def picture(image: np.ndarray) -> Image.Image:
    """Return levels (C, H, W) of bytes, C = 1 or 3, as a picture of the same bytes."""
    return Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))


def _safe(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.name.endswith(".png") or "\0" in name or "\\" in name:
        raise InvalidInput(f"it names an image {name[:80]!r}, which is no PNG below the folder: do not trust this file")
    return name
