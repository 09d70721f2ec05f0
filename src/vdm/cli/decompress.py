"""``vdm-decompress FILE folder=…``: the images of a file of ``vdm-compress``, bit for bit."""

import json
import sys
from pathlib import Path

from omegaconf import DictConfig

from vdm.bars import share_bar
from vdm.cli import entry
from vdm.cli.compress import ACCOUNT
from vdm.codec import decode
from vdm.codec.container import read
from vdm.codec.files import check_new, write_images
from vdm.codec.identity import differences
from vdm.errors import InvalidInput, printable
from vdm.reports import console
from vdm.runs.bounds import check_file
from vdm.runs.load import load_run


def decompress(config: DictConfig) -> None:
    """Write the images into a new folder, all of them or none."""
    path = Path(config.file)
    check_new(Path(config.folder))
    try:
        check_file(path)
        content = path.read_bytes()
        header, _ = read(content)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read ({error.strerror}): name a file of vdm-compress") from error
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from error
    model = load_run(config.ckpt or _checkpoint(path), config.ema, trust=config.trust).model
    if differences(header):
        print(
            printable(f"{path} was compressed with {', '.join(differences(header))}: every image is checked"),
            file=sys.stderr,
        )
    with share_bar("decompressing") as progress:
        blocks = decode(model, content, progress)
        try:
            written = write_images(Path(config.folder), blocks, header.images)
        except InvalidInput as error:
            raise InvalidInput(f"{path}: {error}") from error
    console.show(f"{console.short_path(written)}: {header.images} images, every checksum as compressed")


def _checkpoint(path: Path) -> str:
    """Return the checkpoint that compress.json beside the file names."""
    beside = path.with_name(ACCOUNT)
    try:
        found = json.loads(beside.read_text())["checkpoint"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidInput(f"ckpt is needed, since there is no {beside} that names it: add ckpt=…") from error
    if not isinstance(found, str):
        raise InvalidInput(f"{beside} names no checkpoint: add ckpt=…")
    return found


main = entry.decompress
